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

from ampstore import errors, log
from ampstore.errors import *  # noqa: F403 - every error is public

if TYPE_CHECKING:
    from ampstore.codec import Codec as Codec
    from ampstore.database import FileDatabase as FileDatabase
    from ampstore.legacy import LegacyDatabase as LegacyDatabase
    from ampstore.shelf import Shelf as Shelf
    from ampstore.shelf import open as open
    from ampstore.store import Damage as Damage
    from ampstore.store import Stats as Stats
    from ampstore.store import Store as Store
    from ampstore.transfer import Report as Report
    from ampstore.transfer import export_legacy as export_legacy
    from ampstore.transfer import import_legacy as import_legacy

_HOMES = {
    "Codec": "codec",
    "Damage": "store",
    "FileDatabase": "database",
    "LegacyDatabase": "legacy",
    "Report": "transfer",
    "Shelf": "shelf",
    "Stats": "store",
    "Store": "store",
    "export_legacy": "transfer",
    "import_legacy": "transfer",
    "open": "shelf",
}

_ERRORS = [name for name in vars(errors) if name.endswith("Error")]
__all__ = [*_HOMES, *_ERRORS]  # noqa: PLE0604


def __getattr__(name: str) -> object:
    if name == "__version__":
        from ampstore.schema import version

        return version()
    if name not in _HOMES:
        raise AttributeError(f"module 'ampstore' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"ampstore.{_HOMES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)


_ = log
