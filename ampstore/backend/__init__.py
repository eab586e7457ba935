"""All SQL of ampstore: connections, transactions, checkpoints, and the statements of `statements`.

A backend moves rows; it does not know what a value is. `SQLite` is one file in WAL mode.
"""

from ampstore.backend.sqlite import Durability, Row, SQLite

__all__ = ["Durability", "Row", "SQLite"]
