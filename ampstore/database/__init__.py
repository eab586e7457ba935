"""FileDatabase, the name and interface that Amp programs know.

tiers        loose files, store and archive as one mapping
container    one `.ampdb` directory: opening it, and the care that it needs
server       the same interface on a database server, where there are no tiers
"""

from ampstore.database.container import CACHE, FileDatabase

__all__ = ["CACHE", "FileDatabase"]

FileDatabase.__module__ = __name__  # its name for people and for programs
