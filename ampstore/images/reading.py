r"""Images from wherever they are, and as a dictionary under their keys.

    list, iterator, Trajectory, ase.db database  \
    a.traj  a.db  a.json  a.extxyz  OUTCAR …      >  read_images  ->  hash_images  ->  MetaDict {key: Atoms}
    a dictionary                                 /                     (passes through, the same object)

Everything streams: of a file only the images that are kept are in memory. What surprises: ASE creates its tables
in any SQLite file it is pointed at, so a `.db` of another program is recognised and refused before ASE sees it.
"""

import contextlib
import errno
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

from ampstore.errors import NotAnImageError, UnreadableImagesError
from ampstore.images.hashing import hashed
from ampstore.images.metadict import MetaDict, OrderedMetaDict
from ampstore.images.progress import Progress, watched
from ampstore.log import as_log, elapsed_text

if TYPE_CHECKING:
    from ase import Atoms

Images: TypeAlias = Any
"""Iterable of ase.Atoms, path, ASE Trajectory or database, or a dictionary whose values are images."""


@overload
def hash_images(
    images: None,
    log: Callable[..., object] | None = None,
    ordered: bool = False,
    *,
    scheme: str = "v2",
    progress: Progress | bool | None = None,
) -> None: ...
@overload
def hash_images(
    images: Images,
    log: Callable[..., object] | None = None,
    ordered: bool = False,
    *,
    scheme: str = "v2",
    progress: Progress | bool | None = None,
) -> MetaDict: ...
def hash_images(
    images: Images | None,
    log: Callable[..., object] | None = None,
    ordered: bool = False,
    *,
    scheme: str = "v2",
    progress: Progress | bool | None = None,
) -> MetaDict | None:
    """Images as a dictionary under their keys.

    Parameters
    ----------
    images : iterable of ase.Atoms, path, or dictionary
        A list, an iterator, an ASE Trajectory or database object; or the path of a `.traj`, an ASE database
        (`.db`, `.json`) or any file that `ase.io.iread` reads, as it writes them (``"md.extxyz@-100:"`` too).
        A dictionary (anything with ``keys``) is returned as it is, and so is None.
    log : Logger, callable or logging.Logger, optional
        Gets a line at the start, a warning for every duplicate, the line ``N unique images after hashing.``, which
        Amp's plotting tools read, and a line with the time at the end.
    ordered : bool
        Return an `OrderedMetaDict`. The order of the first occurrences is kept in any case.
    scheme : str
        Generation of the keys, see `get_hash`.
    progress : callable(done, total), bool or None
        None shows a bar on a terminal when it takes long, True always, False never.

    Returns
    -------
    MetaDict
        Key -> image object. Of images with one key the last one is kept. ``metadata["duplicates"]`` has the number
        of occurrences of each key that occurred more than once, ``metadata["scheme"]`` the scheme.

    Raises
    ------
    NotAnImageError
        (a TypeError) for an Atoms object that is not in a list, or for something else among the images.
    UnreadableImagesError
        (an OSError) for a file that ASE cannot read to its end.
    FileNotFoundError
        If there is no such file.
    """
    write = as_log(log)
    if images is None:
        return None
    if hasattr(images, "keys"):
        write(f" {len(images)} unique images after hashing.")
        return images  # type: ignore[no-any-return]
    start = time.monotonic()
    write("Hashing images.")
    found = OrderedMetaDict() if ordered else MetaDict()
    counts: dict[str, int] = {}
    source, total = _source(images)
    with contextlib.closing(source):
        for image, key in hashed(watched(source, total, progress, "hashing images"), scheme):
            if key in found:
                counts[key] = counts.get(key, 1) + 1
                write(f" Warning: duplicate image, the last one counts: {key}")
            found[key] = image
    found.metadata = {"duplicates": counts, "scheme": scheme}
    write(f" {len(found)} unique images after hashing.")
    write(f" Hashing took{elapsed_text(time.monotonic() - start)}")
    return found


def read_images(images: Images) -> "Iterator[Atoms]":
    """Images one after the other, from whatever `hash_images` takes; of a dictionary its values.

    Parameters
    ----------
    images : iterable of ase.Atoms, path, or dictionary
        As for `hash_images`.

    Raises
    ------
    NotAnImageError, UnreadableImagesError, FileNotFoundError
        As `hash_images`; what can be known before the first image is raised at once.
    """
    if hasattr(images, "keys"):
        return iter([images[key] for key in images.keys()])  # noqa: SIM118 - shelves have keys() and no order of their own
    return _source(images)[0]


def _source(images: Images) -> "tuple[Generator[Atoms, None, None], int | None]":
    """The images, and their number where that is known without reading them."""
    if isinstance(images, (str, os.PathLike)):
        return _file(os.fspath(images))
    if hasattr(images, "get_atomic_numbers"):
        raise NotAnImageError("Atoms")
    if hasattr(images, "select") and hasattr(images, "count"):
        return _rows(images), images.count()
    try:
        return _all_of(iter(images)), len(images) if hasattr(images, "__len__") else None
    except TypeError:
        raise NotAnImageError(type(images).__name__) from None


def _all_of(images: Iterator[Any]) -> "Generator[Atoms, None, None]":
    for image in images:
        yield image.toatoms() if hasattr(image, "toatoms") else image


def _rows(database: Any) -> "Generator[Atoms, None, None]":
    for row in database.select():
        yield row.toatoms()


def _file(path: str) -> "tuple[Generator[Atoms, None, None], int | None]":
    if not os.path.exists(path):
        if "@" in os.path.basename(path) and os.path.exists(path.rpartition("@")[0]):  # ASE's file@index
            return _guarded(path, _read(path)), None
        raise FileNotFoundError(errno.ENOENT, "there is no such file of images", path)
    suffix = Path(path).suffix
    if suffix in (".db", ".json"):
        database = _database(path)
        return _guarded(path, _rows(database)), _counted(path, database.count)
    if suffix == ".traj":
        return _guarded(path, _trajectory(path)), _counted(path, lambda: _frames(path))
    return _guarded(path, _read(path)), None


def _counted(path: str, count: Callable[[], int]) -> int:
    try:
        return count()
    except Exception as err:
        raise UnreadableImagesError(path, f"{type(err).__name__}: {err}") from err


def _guarded(path: str, images: Iterable[Any]) -> "Generator[Atoms, None, None]":
    """ASE's many errors for a file that it cannot read, as one."""
    read = 0
    source = iter(images)
    while True:
        try:
            image = next(source)
        except StopIteration:
            return
        except Exception as err:
            raise UnreadableImagesError(path, f"{type(err).__name__}: {err}", read) from err
        yield image
        read += 1


def _read(path: str) -> "Generator[Atoms, None, None]":
    import ase.io

    yield from ase.io.iread(path, do_not_split_by_at_sign=os.path.exists(path))


def _trajectory(path: str) -> "Generator[Atoms, None, None]":
    import ase.io

    with ase.io.Trajectory(path) as trajectory:  # type: ignore[no-untyped-call, unused-ignore]
        yield from trajectory


def _frames(path: str) -> int:
    import ase.io

    with ase.io.Trajectory(path) as trajectory:  # type: ignore[no-untyped-call, unused-ignore]
        return len(trajectory)


def _database(path: str) -> Any:
    import ase.db

    database = ase.db.connect(path)  # type: ignore[no-untyped-call, unused-ignore]
    if path.endswith(".db"):
        with contextlib.closing(database._connect()) as connection:  # noqa: SLF001 - anything else creates tables
            _refuse_others(path, connection)
    return database


def _refuse_others(path: str, connection: Any) -> None:
    try:
        tables = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'systems'").fetchall()
    except Exception as err:
        raise UnreadableImagesError(path, str(err)) from err
    if not tables:
        raise UnreadableImagesError(path, "an SQLite file, but not a database of ASE")
