"""A store: entries, notes about them, and the care that they need, at one place on a disk or a server.

The mapping is that of `Entries`; here are opening and closing, claims, traces, notes, verifying, copying, compacting.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ampstore.backend import Durability, SQLite
from ampstore.codec import Allowed, Codec
from ampstore.store import care
from ampstore.store.care import Damage, Stats
from ampstore.store.claims import LEASE, Claims
from ampstore.store.entries import Entries
from ampstore.store.opening import Flag, locate, open_backend
from ampstore.store.streams import Streams

if TYPE_CHECKING:
    from ampstore.backend import Backend
    from ampstore.store.compaction import Compaction, Progress
    from ampstore.store.orphans import LeftOver

RUN = "run "
"""What the names of notes about runs of calculations begin with; `info` is about the store."""


class Store(Entries):
    """A mapping of text keys to Python values in one SQLite file, or on a PostgreSQL server.

    Every set is durable when it returns (see `durability`), every get makes fresh objects. Any
    number of threads and processes may use one store at once; a Store pickles as its location, and
    works on after fork.

    Parameters
    ----------
    path : str or path-like
        The file, or a URL: postgresql+psycopg://user@host/database?schema=name (see docs/postgresql.md).
    flag : {"c", "w", "r", "n"}
        As in shelve: create if missing, must exist, read-only, start empty.
    allow : iterable of str or "*"
        Packages or "module.Class" that values may name besides the safe ones.
    timeout : float
        Longest wait for other writers, seconds; then BusyError.
    durability : {"normal", "full"}
        "normal" survives any crash of the process, and after a power cut is as it was at some
        moment of the last seconds; "full" loses nothing then either, for one fsync per commit.
    level : int
        zstd level.
    cache : int
        Bytes of decompressed values kept in memory. An entry is used from there only while the
        store still has its checksum, so writes of other processes are seen at once. 0 turns it off.
    codecs : iterable of str
        Codecs of other packages that are tried first when a value is stored; see `ampstore.codec.plugins`.

    Raises
    ------
    MissingStoreError, NotAStoreError, NewerStoreError, OutdatedStoreError, DamagedStoreError,
    AccessError, BusyError, LocationError, ConnectionLostError, DriverMissingError
        Each is also the builtin that shelve raises for it (OSError, PermissionError, TimeoutError).
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        flag: Flag = "c",
        *,
        allow: Allowed = (),
        timeout: float = 30.0,
        durability: Durability = "normal",
        level: int = 3,
        cache: int = 0,
        codecs: Iterable[str] = (),
    ) -> None:
        if flag not in ("r", "w", "c", "n"):
            raise ValueError(f"flag must be 'r', 'w', 'c' or 'n', not {flag!r}")
        if durability not in ("normal", "full"):
            raise ValueError(f"durability must be 'normal' or 'full', not {durability!r}")
        place = locate(path)
        self.location = str(place)
        self.flag: Flag = flag
        codec = Codec(allow, level, codecs)
        self._options = {
            "timeout": timeout, "durability": durability, "level": level, "cache": cache, "codecs": codec.codecs
        }  # fmt: skip
        self._backend = open_backend(place, flag, timeout, durability)
        self.codec = codec.reading_from(self._backend.dictionary)
        self._cache = Streams(cache)
        if flag == "n":
            self.clear()

    @classmethod
    def open(cls, path: str | os.PathLike[str], flag: Flag = "c") -> Self:
        """Open a store, as shelve.open does."""
        return cls(path, flag)

    @property
    def path(self) -> Path | None:
        """The file; None if the store is on a server."""
        return self._backend.path if isinstance(self._backend, SQLite) else None

    @property
    def backend(self) -> "Backend":
        """The rows of this store, for the other parts of ampstore.store."""
        return self._backend

    @property
    def readonly(self) -> bool:
        """Whether writes are refused."""
        return self._backend.readonly

    @property
    def timeout(self) -> float:
        """Longest wait for other writers, seconds."""
        return self._backend.timeout

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._backend.closed

    def __repr__(self) -> str:
        return f"Store({self.location!r}, {self.flag!r})"

    def __reduce__(self) -> tuple[object, ...]:
        flag = "c" if self.flag == "n" else self.flag
        return _reopen, (self.location, flag, self.codec.allow, self._options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the store for all threads; everything is stored already. Closing twice is fine."""
        self._backend.close()

    # -- what else is kept there ----------------------------------------------------------------

    def claims(self, lease: float = LEASE) -> Claims:
        """Claims on keys that are being computed: see `ampstore.store.claims`."""
        return Claims(lambda: self, lease)

    def put_trace(self, run: str, chain: int, points: Iterable[Sequence[float]], *, replace: bool = False) -> None:
        """Keep points of a search as rows of the table `trace`, which plain sqlite3 can read.

        Parameters
        ----------
        run : str
            Name of the search.
        chain : int
            Which of several at once.
        points : iterable of `ampstore.anneal.Point`
            A point of the same step is replaced.
        replace : bool
            Delete the points that this chain and those of higher numbers have before.
        """
        self._backend.put_trace(run, chain, points, replace)

    def info(self) -> dict[str, str]:
        """Facts about the store: its id, who made it, its format."""
        facts = {name: value for name, value in self._backend.info().items() if not name.startswith(RUN)}
        return {**facts, "format": self._backend.revision() or ""}

    def notes(self, prefix: str) -> dict[str, str]:
        """Facts whose names begin with a prefix."""
        return {name: value for name, value in self._backend.info().items() if name.startswith(prefix)}

    def forget(self, name: str) -> bool:
        """Keep a fact no longer; False if it was not known."""
        return self._backend.info_delete(name)

    def claimants(self) -> list[tuple[str, int, float]]:
        """Who has claims: owner, how many, and seconds until the last one expires."""
        return self._backend.claimants()

    def note(self, name: str, value: str) -> None:
        """Keep a fact about the store."""
        self._backend.info_put(name, value)

    def renote(self, name: str, was: str | None, value: str) -> bool:
        """Keep a fact if what is noted still is `was`, None for nothing; atomic among processes."""
        with self.batch():
            if self.noted(name) != was:
                return False
            self.note(name, value)
        return True

    def noted(self, name: str) -> str | None:
        """A fact about the store, None if it was never noted."""
        return self._backend.info_get(name)

    # -- care ----------------------------------------------------------------------------------

    def stats(self) -> Stats:
        """Number of entries and their sizes."""
        return care.stats(self.backend)

    def verify(self) -> Iterator[Damage]:
        """Everything that is damaged, found by reading all of it: pages, checksums, pickles."""
        return care.verify(self.backend, self.codec)

    def left_overs(self) -> Iterator["LeftOver"]:
        """What belongs to nothing any more: unfinished copies, claims of the dead, dictionaries that nobody needs."""
        from ampstore.store.orphans import left_overs

        return left_overs(self.backend)

    def globals(self) -> Counter[str]:
        """How many values refer to each function or class ("module.name"), told without importing any."""
        return care.globals_in(self.backend, self.codec)

    def verify_payloads(self) -> Iterator[Damage]:
        """Damaged pages and payloads, without making the values."""
        return care.verify_payloads(self.backend, self.codec)

    def backup(self, destination: str | os.PathLike[str]) -> Path:
        """Copy the store as it is now into a new file, verified, while others go on writing.

        Parameters
        ----------
        destination : str or path-like
            A name that is free.

        Raises
        ------
        FileExistsError
            If it is not.
        """
        return care.backup(self.backend, self.codec, Path(os.path.abspath(destination)))

    def compact(self, level: int | None = None, *, progress: "Progress | None" = None) -> "Compaction":
        """Store everything in less space, and give the free space back to the file system.

        The zstd level, a trained dictionary and the layout are chosen for each kind of values by
        measuring some of them; see `ampstore.store.compaction`. Others may read and write meanwhile.

        Parameters
        ----------
        level : int, optional
            zstd level for all kinds, 1 to 22.
        progress : callable, optional
            Called with the entries done and all there are.

        Returns
        -------
        Compaction
            Bytes on disk `before` and `after`, and what was gained for each of the `kinds`.

        Raises
        ------
        ValueError
            If there is no such level.
        StoreError
            Inside a batch.
        """
        from ampstore.store.compaction import compact  # a tenth of the time that it takes to open a store

        return compact(self._backend, self.codec, level, progress)

    def sync(self) -> None:
        """Put every write so far on the disk, whatever the durability."""
        if not self.readonly:
            self._backend.sync()


def _reopen(path: str, flag: Flag, allow: Allowed, options: dict[str, object]) -> Store:
    return Store(path, flag, allow=allow, **options)  # type: ignore[arg-type]
