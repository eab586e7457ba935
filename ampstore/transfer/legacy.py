"""Whole containers: found, imported, exported."""

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ampstore.codec import Allowed, Codec, same
from ampstore.codec.legacy import dump_legacy, load_legacy
from ampstore.codec.safe import Rule
from ampstore.durable import make_directory, sync
from ampstore.errors import AmpstoreError, MissingStoreError
from ampstore.legacy import Container, Problem, check_name, container_path, maintenance_lock
from ampstore.legacy.archive import write_archive
from ampstore.legacy.loose import file_errors
from ampstore.spool import check_folded
from ampstore.store import Store
from ampstore.transfer.folding import fold
from ampstore.transfer.report import Progress, Report

STORE_NAME = "store.sqlite3"


def find_containers(paths: Iterable[Path]) -> list[Path]:
    """Containers among the paths and in the directories below them; links are not followed.

    Raises
    ------
    MissingStoreError
        If one of the paths is neither a container nor a directory.
    """
    found: list[Path] = []
    for path in paths:
        named = container_path(path)
        if named.is_dir():
            found.append(named)
        elif path.is_dir():
            found.extend(_below(path))
        else:
            a_file = "this is a file; name a container, or a directory with .ampdb containers in it"
            raise MissingStoreError(str(path), a_file if path.exists() else "there is no such container or directory")
    return list(dict.fromkeys(found))


def _below(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.iterdir()):
        if path.is_symlink() or not path.is_dir():
            continue
        if path.name.endswith(".ampdb"):
            yield path
        else:
            yield from _below(path)


def import_legacy(
    source: Path | str,
    into: Path | str | None = None,
    *,
    allow: Allowed = (),
    jobs: int = 1,
    remove_source: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
    timeout: float = 30.0,
) -> Report:
    """Fold a legacy container into a store and verify every entry.

    Parameters
    ----------
    source : path
        The container, with or without ".ampdb".
    into : path, optional
        A store's file or another container; default is the container's own store.
    allow : iterable of str or "*"
        As in `Store`.
    jobs : int
        Processes that read and encode; with more than 1, a script needs `if __name__ == "__main__"`.
    remove_source : bool
        Remove what was verified, and only that.
    dry_run : bool
        Read everything, write nothing.
    progress : callable(done, total), optional
    timeout : float, seconds
        Longest wait for another maintainer or writer.

    Returns
    -------
    Report

    Raises
    ------
    MissingStoreError
        If there is no such container.
    BusyError
        If another process maintains it.
    """
    directory = container_path(source)
    if not directory.is_dir():
        raise MissingStoreError(str(directory), "there is no such container")
    target = _target(directory, into)
    check_folded(directory)
    container = Container(directory)
    report = Report(str(directory), str(target), dry_run=dry_run, bytes_before=container.size())
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        store = None
        if not dry_run:
            if into is None or remove_source:
                stack.enter_context(maintenance_lock(directory, timeout))
                container.remove_left_overs()
            with file_errors(target.parent, "made"):
                make_directory(target.parent)
            store = stack.enter_context(Store(target, "c", allow=allow, timeout=timeout))
        fold(container, store, report, Codec(allow), jobs=jobs, remove=remove_source, progress=progress)
        if store is not None:
            store.sync()
            report.bytes_after = store.stats().disk
    report.seconds = time.monotonic() - started
    return report


def _target(directory: Path, into: Path | str | None) -> Path:
    if into is None:
        return directory / STORE_NAME
    target = Path(into)
    return target / STORE_NAME if target.name.endswith(".ampdb") or target.is_dir() else target


def export_legacy(
    source: Mapping[str, object],
    destination: Path | str,
    *,
    archive: bool = False,
    allow: Allowed = (),
    progress: Progress | None = None,
) -> Report:
    """Write the entries of a store or database in the legacy layout, and verify every one.

    Parameters
    ----------
    source : mapping
        A Store, Shelf or FileDatabase.
    destination : path
        A container that does not exist yet, with or without ".ampdb".
    archive : bool
        Write one archive.tar.gz; default is a file per entry.
    allow : iterable of str or "*"
        What values may name when they are read back.
    progress : callable(done, total), optional

    Returns
    -------
    Report
        Entries that the layout cannot hold (a slash in the key, say) are left.

    Raises
    ------
    FileExistsError
        If the destination exists.
    """
    directory, rule = container_path(destination), Rule(allow)
    report = Report(str(getattr(source, "path", "")), str(directory), entries=len(source))
    started = time.monotonic()
    container = Container(directory)
    with file_errors(directory, "made"):
        make_directory(directory.parent)
        directory.mkdir()  # raises FileExistsError
        sync(directory.parent)
        make_directory(container.loose.directory)
    entries = _pickled(source, rule, report, progress)
    if archive:
        write_archive(container.archive.path, ((name, data, time.time()) for name, data in entries))
    else:
        for name, data in entries:
            container.loose.write(name, data)
    for name in container.names():
        if name in source and same(load_legacy(name, container.read(name) or b"", rule), source[name]):
            report.written += 1
        else:
            report.left.append(Problem(name, "export", "it changed while it was exported; export again"))
    report.bytes_after = container.size()
    report.seconds = time.monotonic() - started
    return report


def _pickled(
    source: Mapping[str, object], rule: Rule, report: Report, progress: Progress | None
) -> Iterator[tuple[str, bytes]]:
    for done, key in enumerate(source, 1):
        try:
            check_name(key)
            data = dump_legacy(source[key], rule)
            report.bytes_before += len(data)
            yield key, data
        except (AmpstoreError, KeyError) as err:
            report.left.append(Problem(key, "store", getattr(err, "reason", "") or str(err)))
        if progress:
            progress(done, report.entries)
