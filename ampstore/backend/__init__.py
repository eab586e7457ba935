"""All SQL of ampstore. A backend moves rows; it does not know what a value is.

sqlite        rows of one file: reading, writing, transactions, checkpoints
connections   one for every thread of every process; read-only ones that write nothing
statements    the SQL, written once, compiled once per dialect
failures      SQLite's errors turned into ours
"""

from ampstore.backend.connections import Durability
from ampstore.backend.sqlite import Row, SQLite

__all__ = ["Durability", "Row", "SQLite"]
