"""All SQL of ampstore. A backend moves rows; it does not know what a value is.

sqlite        rows of one file: reading, writing, transactions, checkpoints
connections   one for every thread of every process; read-only ones that write nothing
core          the SQL, written once, with SQLAlchemy
compiled      the text that comes of it
statements    its names
failures      SQLite's errors turned into ours
"""

from ampstore.backend.connections import Durability
from ampstore.backend.sqlite import Row, SQLite

__all__ = ["Durability", "Row", "SQLite"]
