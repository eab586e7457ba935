"""Writes `ampstore.ddl`, the tables of a new store as text, from the revisions."""

from pathlib import Path

from ampstore import ddl
from ampstore.schema import source_of_ddl

if __name__ == "__main__":
    Path(ddl.__file__).write_text(source_of_ddl())
