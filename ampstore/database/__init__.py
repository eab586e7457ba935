"""FileDatabase, the name and interface that Amp programs know.

container    one `.ampdb` directory and its tiers
server       the same interface on a database server, where there are no tiers
"""

from ampstore.database.container import CACHE, FileDatabase

__all__ = ["CACHE", "FileDatabase"]

FileDatabase.__module__ = __name__  # its name for people and for programs
