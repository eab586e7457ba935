"""What the name of a side is: a store's file, a container, the legacy layout, a URL.

    results.db                       a file with a store
    label-fingerprints.ampdb         a container, with its tiers; ".ampdb" may be left out if it is there
    postgresql+psycopg://…           a store on a server

What does not exist yet becomes a container if its name ends in .ampdb, and a file if not.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from ampstore.backend import is_url, parse
from ampstore.codec import Allowed, Codec
from ampstore.durable import make_directory
from ampstore.errors import MissingStoreError, StoreError
from ampstore.legacy import Container, LegacyDatabase, container_path, maintenance_lock
from ampstore.legacy.container import SUFFIX
from ampstore.legacy.loose import file_errors
from ampstore.legacy.names import reason_against
from ampstore.spool import check_folded
from ampstore.store import Store
from ampstore.store.opening import Flag
from ampstore.transfer.folding import fold
from ampstore.transfer.legacy import STORE_NAME
from ampstore.transfer.report import Report
from ampstore.transfer.sides import NoSide, Side, StoreSide, TieredSide
from ampstore.transfer.targets import LegacyTarget, NoTarget, StoreTarget, Target

Layout = Literal["store", "loose", "archive"]


def place_of(name: object) -> Path | str:
    """Absolute path or URL of a name, of a path, or of an open Store, FileDatabase or LegacyDatabase."""
    if not isinstance(name, (str, os.PathLike)):
        name = getattr(name, "location", None) or getattr(name, "path", None)
    if isinstance(name, str) and is_url(name):
        return parse(name).location
    if isinstance(name, (str, os.PathLike)):
        path = Path(os.path.abspath(os.fsdecode(name)))
        container = container_path(path)
        return container if not path.is_file() and (container.is_dir() or path.name.endswith(SUFFIX)) else path
    raise TypeError("a store is named by its path or URL, or is an open Store, FileDatabase or LegacyDatabase")


def same_place(name: object, other: object) -> bool:
    """Whether two names lead to one store, also by links."""
    one, two = (_file(place_of(each)) for each in (name, other))
    if one == two or isinstance(one, str) or isinstance(two, str):
        return one == two
    return one.exists() and two.exists() and one.samefile(two)


def _file(place: Path | str) -> Path | str:
    return Path(place) / STORE_NAME if is_container(place) else place


def is_container(place: Path | str) -> bool:
    """Whether a place is a container, or would be one."""
    return isinstance(place, Path) and place.name.endswith(SUFFIX) and not place.is_file()


@contextlib.contextmanager
def opened_side(name: object, *, allow: Allowed = (), jobs: int = 1, timeout: float = 30.0) -> Iterator[Side]:
    """A side that is only read.

    Raises
    ------
    MissingStoreError
        If there is nothing.
    """
    place = place_of(name)
    if not is_container(place):
        with Store(place, "r", allow=allow, timeout=timeout) as store:
            yield StoreSide(store, store.location)
        return
    if not Path(place).is_dir():
        raise MissingStoreError(str(place), "there is no such container")
    with _store_in(Path(place), "r", allow, timeout) as side:
        yield TieredSide(Container(Path(place)), side, Codec(allow), jobs)


@contextlib.contextmanager
def _store_in(directory: Path, flag: Flag, allow: Allowed, timeout: float) -> Iterator[StoreSide | NoSide]:
    file = directory / STORE_NAME
    check_folded(directory)
    if flag == "r" and not file.is_file():
        yield NoSide(str(directory))
        return
    with Store(file, flag, allow=allow, timeout=timeout) as store:
        yield StoreSide(store, str(directory))


@contextlib.contextmanager
def opened_target(
    name: object, *, layout: Layout = "store", allow: Allowed = (), dry_run: bool = False, timeout: float = 30.0
) -> Iterator[Target]:
    """A side that is written to, made if it is not there; the legacy files of a container are folded first."""
    place = place_of(name)
    if layout != "store":
        place = _legacy_place(place)
    if dry_run:
        with _opened_to_look(place, allow, timeout) as side:
            yield NoTarget(side)
    elif layout != "store":
        database = LegacyDatabase(place, allow=allow)
        side = TieredSide(Container(Path(place)), NoSide(str(place)), Codec(allow))
        yield LegacyTarget(database, side, layout == "archive")
    elif is_container(place):
        with _container(Path(place), allow, timeout) as store:
            yield StoreTarget(store, str(place))
    else:
        with Store(place, "c", allow=allow, timeout=timeout) as store:
            yield StoreTarget(store, store.location)


@contextlib.contextmanager
def _opened_to_look(place: Path | str, allow: Allowed, timeout: float) -> Iterator[Side]:
    if isinstance(place, Path) and not place.exists():
        yield NoSide(str(place))
        return
    with opened_side(place, allow=allow, timeout=timeout) as side:
        yield side


@contextlib.contextmanager
def _container(directory: Path, allow: Allowed, timeout: float) -> Iterator[Store]:
    with file_errors(directory, "made"):
        make_directory(directory)
    container = Container(directory)
    check_folded(directory)
    with Store(directory / STORE_NAME, "c", allow=allow, timeout=timeout) as store:
        if container.names():
            report = Report(str(directory), str(store.path), bytes_before=container.size())
            with maintenance_lock(directory, timeout):
                fold(container, store, report, Codec(allow), remove=True)
            _refuse_hidden(container, report, Codec(allow))
        yield store


def _refuse_hidden(container: Container, report: Report, codec: Codec) -> None:
    """A loose file wins over the store, so one that cannot be folded would hide what is copied."""
    for problem in report.left:
        if not reason_against(problem.name) and container.loose.holds_entry(problem.name, codec.rule):
            detail = f"loose {problem.name!r} cannot be folded into its store ({problem.reason})"
            raise StoreError(str(container.directory), f"{detail}, and would hide what is copied; move it away")


def _legacy_place(place: Path | str) -> Path:
    if not isinstance(place, Path):
        raise StoreError(str(place), "a server has no legacy layout; name a directory")
    directory = container_path(place)
    if (directory / STORE_NAME).exists():
        raise StoreError(
            str(directory), "it has a store, so it is no legacy layout; copy without one, or choose a new name"
        )
    return directory
