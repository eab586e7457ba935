"""ampstore: text keys to Python values, durable, compressed, safe, for many processes at once.

    import ampstore
    with ampstore.open("results.db") as results:      # in place of shelve.open
        results["a1b2"] = [("Cu", [0.1, 0.2])]

    ampstore.FileDatabase("label-fingerprints")       # in place of amp.utilities.FileDatabase

Every name is imported when it is first used: `import ampstore` alone loads neither SQLAlchemy nor
Alembic nor ASE.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ampstore import errors
from ampstore.errors import *  # noqa: F403 - every error is public
from ampstore.late import late_names

if TYPE_CHECKING:
    from ampstore import log as log
    from ampstore.amp import ConvergenceOccurred as ConvergenceOccurred
    from ampstore.amp import TrainingConvergenceError as TrainingConvergenceError
    from ampstore.anneal import Annealer as Annealer
    from ampstore.anneal import Checkpoint as Checkpoint
    from ampstore.anneal import estimate_schedule as estimate_schedule
    from ampstore.anneal import independent_restarts as independent_restarts
    from ampstore.anneal import replica_exchange as replica_exchange
    from ampstore.codec import Codec as Codec
    from ampstore.cores import assign_cores as assign_cores
    from ampstore.cores import detect as detect
    from ampstore.data import Data as Data
    from ampstore.data import Failure as Failure
    from ampstore.database import FileDatabase as FileDatabase
    from ampstore.images import MetaDict as MetaDict
    from ampstore.images import check_scheme as check_scheme
    from ampstore.images import export_images as export_images
    from ampstore.images import get_hash as get_hash
    from ampstore.images import hash_images as hash_images
    from ampstore.images import import_images as import_images
    from ampstore.images import importer as importer
    from ampstore.images import make_filename as make_filename
    from ampstore.images import new_keys as new_keys
    from ampstore.images import randomize_images as randomize_images
    from ampstore.images import read_images as read_images
    from ampstore.images import string2dict as string2dict
    from ampstore.legacy import LegacyDatabase as LegacyDatabase
    from ampstore.log import Logger as Logger
    from ampstore.log import now as now
    from ampstore.parallel import MessageDictionary as MessageDictionary
    from ampstore.parallel import make_sublists as make_sublists
    from ampstore.parallel import setup_parallel as setup_parallel
    from ampstore.parallel import start_workers as start_workers
    from ampstore.readers import Dataset as Dataset
    from ampstore.shelf import Shelf as Shelf
    from ampstore.shelf import open as open
    from ampstore.store import Damage as Damage
    from ampstore.store import Stats as Stats
    from ampstore.store import Store as Store
    from ampstore.transfer import Report as Report
    from ampstore.transfer import copy as copy
    from ampstore.transfer import diff as diff
    from ampstore.transfer import export_legacy as export_legacy
    from ampstore.transfer import import_legacy as import_legacy
    from ampstore.transfer import merge as merge

_HOMES = {
    "Annealer": "anneal",
    "Checkpoint": "anneal",
    "Codec": "codec",
    "ConvergenceOccurred": "amp",
    "Damage": "store",
    "Data": "data",
    "Dataset": "readers",
    "Failure": "data",
    "FileDatabase": "database",
    "LegacyDatabase": "legacy",
    "Logger": "log",
    "MessageDictionary": "parallel",
    "MetaDict": "images",
    "Report": "transfer",
    "Shelf": "shelf",
    "Stats": "store",
    "Store": "store",
    "TrainingConvergenceError": "amp",
    "assign_cores": "cores",
    "check_scheme": "images",
    "copy": "transfer",
    "detect": "cores",
    "diff": "transfer",
    "estimate_schedule": "anneal",
    "export_images": "images",
    "export_legacy": "transfer",
    "get_hash": "images",
    "hash_images": "images",
    "import_images": "images",
    "import_legacy": "transfer",
    "importer": "images",
    "independent_restarts": "anneal",
    "make_filename": "images",
    "make_sublists": "parallel",
    "merge": "transfer",
    "new_keys": "images",
    "now": "log",
    "open": "shelf",
    "randomize_images": "images",
    "read_images": "images",
    "replica_exchange": "anneal",
    "setup_parallel": "parallel",
    "start_workers": "parallel",
    "string2dict": "images",
}

_ERRORS = [name for name in vars(errors) if name.endswith("Error")]
__all__ = [*_HOMES, *_ERRORS]  # noqa: PLE0604

_late = late_names(__name__, _HOMES)


def __getattr__(name: str) -> object:
    if name == "__version__":
        from ampstore.schema import version

        return version()
    if name == "log":
        return import_module("ampstore.log")
    return _late(name)


def __dir__() -> list[str]:
    return sorted(__all__)
