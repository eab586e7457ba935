"""The legacy layout of Amp: `<name>.ampdb/loose/<key>` and `<name>.ampdb/archive.tar.gz`.

Knows directories, tar and names, and no SQL. Nothing that is read here is followed or executed:
symbolic links, devices and climbing names are reported, pickles go through the rule of the codec.
"""

from ampstore.legacy.archive import Archive
from ampstore.legacy.container import LOCK_NAME, Container, LegacyDatabase, check_own, container_path, maintenance_lock
from ampstore.legacy.loose import Loose, Stamp
from ampstore.legacy.names import Problem, check_name

__all__ = [
    "LOCK_NAME",
    "Archive",
    "Container",
    "LegacyDatabase",
    "Loose",
    "Problem",
    "Stamp",
    "check_name",
    "check_own",
    "container_path",
    "maintenance_lock",
]
