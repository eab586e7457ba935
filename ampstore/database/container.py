"""Amp's database: the tiers of a directory `<name>.ampdb`, and the care that they need.

The mapping is that of `TieredEntries`; here are opening by name, archiving, changing keys, verifying, notes.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Self

from ampstore.backend import Durability, is_url, parse
from ampstore.codec import Allowed, Codec
from ampstore.codec.globals import globals_of
from ampstore.database.tiers import TieredEntries
from ampstore.errors import (
    CodecError,
    DamagedArchiveError,
    LocationError,
)
from ampstore.images import read_images
from ampstore.images.reading import Images
from ampstore.images.schemes import key_changes
from ampstore.legacy import Container, container_path
from ampstore.legacy.loose import file_errors, left_overs
from ampstore.legacy.names import is_ours
from ampstore.spooled import SpooledStore, claimed
from ampstore.store import Damage, Store
from ampstore.store.orphans import LeftOver
from ampstore.transfer import STORE_NAME, Progress, Rekeyed, Report, change_keys

CACHE = 64 << 20


class FileDatabase(TieredEntries):
    """The database of Amp: a directory `<name>.ampdb`, with the interface of a dictionary.

    Adopts a legacy container in place: what is in `loose/` and `archive.tar.gz` is there at once.
    New values go to the container's store. Any number of threads and processes may use it. A
    database that was closed opens itself again when it is used, as Amp programs expect.

    Parameters
    ----------
    filename : str or path-like
        With or without ".ampdb". The parent directory must exist when something is written. A URL
        (postgresql+psycopg://user@host/database) makes a database on a server, without tiers.
    flag : {None, "c", "w", "r", "n"}
        Only "r" makes a difference: nothing is written, created or locked. Amp ignores the flag.
    allow, timeout, durability
        As in `Store`.
    cache : int
        Bytes of decompressed values kept in memory; writes of other processes are noticed.
    codecs : iterable of str
        As in `Store`.

    Notes
    -----
    `keys` and `values` are lists, as in Amp; `in` costs the same however many entries there are.
    """

    def __new__(cls, filename: str | os.PathLike[str] = "", flag: str | None = None, **options: object) -> Self:  # noqa: ARG004
        """A container, or a database on a server for a URL."""
        if is_url(filename):
            from ampstore.database.server import ServerDatabase

            if not issubclass(ServerDatabase, cls) and cls is not ServerDatabase:
                raise LocationError(parse(os.fspath(filename)).location, f"{cls.__name__} is a container on a disk")
            return super().__new__(ServerDatabase)  # type: ignore[return-value]
        return super().__new__(cls)

    def __init__(
        self,
        filename: str | os.PathLike[str],
        flag: str | None = None,
        *,
        allow: Allowed = (),
        timeout: float = 30.0,
        durability: Durability = "normal",
        cache: int = CACHE,
        codecs: Iterable[str] = (),
    ) -> None:
        self.path = container_path(filename)
        self.location = str(self.path)
        self.readonly = flag == "r"
        self._allow = allow if isinstance(allow, str) else tuple(allow)
        self._codec = Codec(self._allow, codecs=codecs)
        self._options = {
            "timeout": timeout, "durability": durability, "cache": cache, "codecs": self._codec.codecs
        }  # fmt: skip
        self._tiers = Container(self.path)
        self._file = str(self.path / STORE_NAME)
        self._store: Store | SpooledStore | None = None
        self._identity: tuple[int, int] | None = None

    @classmethod
    def open(cls, filename: str | os.PathLike[str], flag: str | None = None) -> Self:
        """Open a database; of the flags only "r" makes a difference."""
        return cls(filename, flag)

    def __repr__(self) -> str:
        return f"FileDatabase({str(self.path)!r})"

    def __reduce__(self) -> tuple[object, ...]:
        flag = "r" if self.readonly else None
        return _reopen, (str(self.path), flag, self._allow, self._options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- care ----------------------------------------------------------------------------------

    def archive(self, progress: Progress | None = None, *, level: int | None = None) -> Report:
        """Fold loose files and archive into the store and compact it: fewest files, least space.

        Parameters
        ----------
        progress : callable, optional
            Called with the entries done and all there are.
        level : int, optional
            zstd level, 1 to 22; else what pays is found for each kind of values, as in `Store.compact`.

        Returns
        -------
        Report
            Files that hold no value stay where they are and are listed in `left`.
        """
        with file_errors(self.path, "read"):
            if not self.path.is_dir():
                return Report(str(self.path), self._file)
        self._tiers.remove_left_overs()
        report = self._fold(loose=True, remove=True, progress=progress)
        with self._in_place() as store:
            report.compaction = store.compact(level)
            report.bytes_after = store.stats().disk
        return report

    def rekey(
        self, images: Images, old: str, new: str = "v2", *, dry_run: bool = False, progress: Progress | None = None
    ) -> Rekeyed:
        """Change the keys from one scheme of hashes to another, as `ampstore.transfer.rekey`.

        Loose files and archive are folded first, as `archive` does.

        Parameters
        ----------
        images : iterable of ase.Atoms, path, or dictionary
            The structures whose values are stored, as `hash_images` takes them.
        old, new : str
            Schemes as for `get_hash`.
        dry_run : bool
            Tell what would be done, write nothing.
        progress : callable, optional
            Called with the entries done and all there are.
        """
        changes = key_changes(read_images(images), old, new)
        if not dry_run and self.unfolded():
            self.archive()
        report = Rekeyed(self.location, old, new, dry_run=dry_run)
        with contextlib.nullcontext(self.store) if dry_run else self._in_place() as store:
            known = store if store is not None else ()
            return change_keys(store, changes, report, progress, [key for key in self.unfolded() if key not in known])

    def unfolded(self) -> list[str]:
        """Keys of loose files and of an archive that is not folded in yet."""
        found = dict.fromkeys(self._tiers.loose.names())
        found |= dict.fromkeys(self._archived(self._existing()))
        return list(found)

    def listing(self, prefix: str = "") -> Iterator[tuple[str, str, int, int, str, float]]:
        """As `Store.listing`: what ampstore wrote, in the store and in a spool; the rest is `unfolded`."""
        store = self._existing()
        return store.listing(prefix) if store is not None else iter(())

    def progress(self) -> tuple[int, int]:
        """Entries that ampstore wrote, and keys that are claimed where claims are files, which are in no store."""
        store = self._existing()
        entries = len(store) if store is not None else 0
        return entries, claimed(store) if isinstance(store, SpooledStore) else 0

    def tiers(self) -> dict[str, int]:
        """Entries in each tier; a key may be in several."""
        existing, store = self._existing(), self.store
        found = {
            "store": len(store) if store is not None else 0,
            "loose": sum(1 for _ in self._tiers.loose.names()),
            "archive": len(self._tiers.archive.members()),
        }
        return {**found, "spool": len(existing.fresh())} if isinstance(existing, SpooledStore) else found

    def verify(self) -> Iterator[Damage]:
        """Everything that is damaged, in every tier, found by reading all of it."""
        if (store := self._existing()) is not None:
            yield from store.verify()
        for problem in self._tiers.problems():
            if is_ours(problem.name):
                continue  # an unfinished file of ours: `left_overs` has it
            yield Damage(problem.name, f"{problem.where}: {problem.reason}")
        for name in self._tiers.names():
            try:
                self._codec.load_legacy(name, self._tiers.read(name) or b"")
            except CodecError as err:
                yield Damage(name, f"legacy file: {getattr(err, 'reason', '') or err}")

    def left_overs(self) -> Iterator[LeftOver]:
        """What belongs to nothing any more, in the store and beside it."""
        if (store := self.store) is not None:
            yield from store.left_overs()
        for directory in (self.path, self.path / "loose"):
            for name, holds_more in left_overs(directory):
                if holds_more:
                    what = "written by another program while it was being removed"
                    remedy = "if the key that its name ends with has an older value, rename it to that; else delete it"
                else:
                    what = "an unfinished file"
                    remedy = "`ampstore migrate` and `archive` delete it once its process has ended, or after an hour"
                yield LeftOver(f"{directory.name}/{name}: {what}", remedy)

    def globals(self) -> Counter[str]:
        """How many values refer to each function or class, in every tier, told without importing any."""
        store = self.store
        found = store.globals() if store is not None else Counter[str]()
        for name in self._tiers.names():
            with contextlib.suppress(DamagedArchiveError):
                found.update({".".join(one) for one in globals_of(self._tiers.read(name) or b"")})
        return found

    def sync(self) -> None:
        """Put every write so far on the disk."""
        if (store := self._existing()) is not None:
            store.sync()

    def noted(self, name: str) -> str | None:
        """A fact about the container's store, None if it was never noted."""
        store = self._existing()
        return store.noted(name) if store is not None else None

    def renote(self, name: str, was: str | None, value: str) -> bool:
        """Keep a fact if what is noted still is `was`, None for nothing; makes the store if there is none."""
        with self._in_place() as store:
            return store.renote(name, was, value)

    @property
    def store(self) -> Store | None:
        """The store of the container, None if it has none yet; for reading only where hosts share it."""
        store = self._existing()
        return store.reader if isinstance(store, SpooledStore) else store


def _reopen(path: str, flag: str | None, allow: Allowed, options: Mapping[str, object]) -> FileDatabase:
    return FileDatabase(path, flag, allow=allow, **options)  # type: ignore[arg-type]
