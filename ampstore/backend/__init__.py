"""All SQL of ampstore. A backend moves rows; it does not know what a value is.

protocol      what a store needs of a database
sqlite        one file as a backend: the rows, and care for the file
reading       asking for rows
writing       changing rows
transaction   all of a block or nothing
turns         the queue of writers
flush         group commit for durability "full"
witness       the number of durable commits, noted beside the store
wal           checkpoints
connections   one for every thread of every process; read-only ones that write nothing
core          the SQL, written once, with SQLAlchemy
compiled      the text that comes of it
statements    its names
failures      SQLite's errors turned into ours
pages         a file and its WAL page by page, without SQLite
cells         the cells of those pages
rows          the rows of a damaged file, and which of them count
postgresql/   the same for a server, and server: where that is
"""

from typing import TYPE_CHECKING

from ampstore.backend.connections import Durability
from ampstore.backend.server import Server, is_url, parse
from ampstore.backend.sqlite import SQLite
from ampstore.backend.statements import GAPS, Head, Recoded, Row, Trained

if TYPE_CHECKING:  # 2 ms of each start, and nothing asks for them then
    from ampstore.backend.protocol import Backend as Backend
    from ampstore.backend.protocol import Served as Served

__all__ = [
    "GAPS",
    "Durability",
    "Head",
    "Recoded",
    "Row",
    "SQLite",
    "Server",
    "Trained",
    "is_url",
    "parse",
]
