"""Engines by concept: one adapter class each, all with the same few methods, used the way their documentation shows.

engine       what every one can do; what is on the disk
ours         ampstore in its forms
sqlite       the minimal loop, an object-relational mapper, sqlitedict, diskcache
trees        shelve on every dbm module, LMDB, RocksDB
files        zict, klepto, joblib, AiiDA's object store, HDF5, zarr
structures   ase.db, aselmdb, Atompack
legacy       the layout of Amp
"""

from importlib import import_module

from benchmarks.engines.engine import (
    FSYNC,
    NONE,
    NORMAL,
    Engine,
    Pairs,
    drop_from_page_cache,
    files_of,
    size_on_disk,
)
from benchmarks.engines.files import H5py, Joblib, Klepto, ObjectStore, Zarr, Zict
from benchmarks.engines.legacy import LegacyArchive, LegacyLoose
from benchmarks.engines.ours import Ampstore, AmpstoreFull, Container
from benchmarks.engines.sqlite import Diskcache, Fanout, Minimal, Orm, Sqlitedict
from benchmarks.engines.structures import AseDb, AseLmdb, Atompack
from benchmarks.engines.trees import (
    Lmdb,
    LmdbNoSync,
    Rocks,
    ShelveDumb,
    ShelveGnu,
    ShelveNdbm,
    ShelveSqlite,
)

__all__ = [
    "ENGINES",
    "FSYNC",
    "NONE",
    "NORMAL",
    "Engine",
    "Pairs",
    "drop_from_page_cache",
    "files_of",
    "is_present",
    "opened",
    "present",
    "size_on_disk",
]

ENGINES: dict[str, type[Engine]] = {
    engine.name: engine
    for engine in (
        Ampstore, Container, AmpstoreFull, Minimal, Orm, ShelveGnu, ShelveNdbm, ShelveSqlite, ShelveDumb,
        Sqlitedict, Diskcache, Fanout, Lmdb, LmdbNoSync, Rocks, Zict, Klepto, Joblib, ObjectStore, H5py, Zarr,
        AseDb, AseLmdb, Atompack, LegacyLoose, LegacyArchive,
    )
}  # fmt: skip


def present() -> dict[str, type[Engine]]:
    """Engines whose modules are installed."""
    return {name: engine for name, engine in ENGINES.items() if is_present(name)}


def is_present(name: str) -> bool:
    """Whether the module of one engine is installed."""
    try:
        import_module(ENGINES[name].module)
    except ImportError:
        return False
    return True


def opened(name: str, path: str) -> Engine:
    """Open an engine, by its name, in a directory that exists."""
    engine = ENGINES[name]()
    engine.open(path)
    return engine
