"""Results by image, calculated where they are missing.

    missing keys --claim a few--> calculate --each result--> stored, durable
    present keys                                             one query, whatever the number of entries

The database stays open between two calls of `calculate_items` where it notices by itself that its
files were removed (FileDatabase does), since a simulation asks at every step: opening costs ten
times as much as looking for one key. `d` is None meanwhile, as programs expect.
"""

import contextlib
import dbm
import importlib
import os
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any, Literal, Self

from ampstore.data.calculator import Calculation
from ampstore.data.databases import agree, missing, note
from ampstore.data.interrupts import Interrupts
from ampstore.data.progress import Progress
from ampstore.data.sinks import ClaimingSink, PlainSink, Sink
from ampstore.data.task import Task
from ampstore.database import FileDatabase
from ampstore.errors import CalculationError, InvalidKeyError, KeyTypeError
from ampstore.parallel import Failure, read_plan, run
from ampstore.store.claims import LEASE

Log = Callable[..., object]


class Data:
    """Results of one calculator for many images, in one database.

    Used by one thread of one process at a time; any number of processes may have a Data on the same
    FileDatabase and share the work. A Data pickles as its names, without what is open.

    Parameters
    ----------
    filename : str or path-like
        Name of the database, passed to `db.open`.
    db : class or module
        Anything with `open(filename, mode)` that returns a shelve-like object: FileDatabase,
        LegacyDatabase, Store, the modules `ampstore`, `ampstore.shelve` and `shelve`. Programs that
        calculate at the same time share the work if it offers claims (FileDatabase and Store do);
        for any other, let one program calculate at a time.
    calculator : object, optional
        What calculates: an object with `calculate(image, key)` or `calculate(image)`, or a callable
        of image or of image and key. A callable gets the key if its second argument is required or
        named `key`.

    Attributes
    ----------
    calc, db, filename
        The parameters.
    d : object or None
        The open database.
    """

    def __init__(self, filename: str | os.PathLike[str], db: object = FileDatabase, calculator: object = None) -> None:
        self.calc = calculator
        self.db: Any = db
        self.filename = filename
        self.d: Any = None
        self._reader: FileDatabase | None = None
        self._writer: FileDatabase | None = None

    def __repr__(self) -> str:
        return f"Data({os.fspath(self.filename)!r}, {getattr(self.db, '__name__', self.db)})"

    def __reduce__(self) -> tuple[object, ...]:
        db = _Module(self.db.__name__) if isinstance(self.db, ModuleType) else self.db
        return _rebuild, (type(self), self.filename, db, self.calc)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def open(self, mode: str = "r") -> None:
        """Open the database as `d`; nothing happens if it is open."""
        if self.d is None:
            self.d = self._reader_kept() if mode == "r" and self._keeps else self.db.open(self.filename, mode)

    def close(self) -> None:
        """Close the database. Closing twice is fine."""
        handles, self.d, self._reader, self._writer = (self.d, self._reader, self._writer), None, None, None
        for handle in handles:
            if handle is not None:
                handle.close()

    def __getitem__(self, key: str) -> object:
        self.open()
        return self.d[key]

    def calculate_items(
        self,
        images: Mapping[str, object],
        parallel: Mapping[str, object] | None = None,
        log: Log | None = None,
        *,
        on_error: Literal["raise", "collect"] = "raise",
        lease: float = LEASE,
    ) -> list[Failure]:
        """Calculate what is missing for some images and store it.

        Each result is durable when it is there; those that take less time to calculate than to store
        are stored together, every 0.5 s at the latest. A program that is killed loses only those,
        and what it was calculating; the next run does just that. Ctrl-C and SIGTERM store what is
        finished and go up as KeyboardInterrupt and SystemExit(143).

        Parameters
        ----------
        images : mapping of str to image
            As `hash_images` makes it. An image can be any object.
        parallel : mapping, optional
            {'cores': 1} or None: in this process. {'cores': n} or {'cores': {'localhost': n}}: n
            local processes. {'cores': {'node1': n, ...}}: workers on those hosts, by ssh or srun.
            {'executor': e}: any concurrent.futures.Executor. {'dask': c}: a distributed.Client or the
            address of a scheduler.
        log : callable, optional
            Gets lines of text, as Amp's Logger.
        on_error : {"raise", "collect"}
            What to do at the end if there were failures: raise them, or just return them.
        lease : float
            Seconds until other programs take over what this one was calculating when it stopped to
            answer; a process of the same machine that has ended is noticed at once.

        Returns
        -------
        list of Failure
            Empty unless `on_error` is "collect".

        Raises
        ------
        CalculationError
            If images failed. All others are calculated and stored.
        CalculatorError, ParallelError, KeyTypeError, TypeError
            Before anything is calculated.
        MixedSchemesError
            (a ValueError) likewise, if the keys of the images are of another hash scheme than those in the
            database; see `ampstore.data.databases`.
        WorkerError
            If workers do not start, or an executor breaks.
        """
        if on_error not in ("raise", "collect"):
            raise ValueError(f"on_error must be 'raise' or 'collect', not {on_error!r}")
        if not isinstance(images, Mapping):
            raise TypeError(
                f"images must be a mapping of key to image, not {type(images).__name__}; hash_images(images) makes one"
            )
        plan = read_plan(parallel)
        self._let_go()
        needed, unnoted = self._needed(images)
        if log is not None:
            log(f" Data stored in file {self.filename}.")
            log(f" {len(images) - len(needed)} of {len(images)} images are there.")
            log(f" {len(needed)} new calculations needed.")
        if not needed:
            return []
        calculation = Calculation(self.calc)
        _check_keys(needed)
        progress = Progress(len(needed), log)
        with Interrupts() as interrupts, self._writable(lease, images if unnoted else {}) as sink:
            task = Task(images, needed, sink, progress, interrupts)
            try:
                with sink.kept():
                    run(sink.function(calculation), task, plan)
            finally:
                task.finish()
                if log is not None:
                    log(f" Calculated {task.calculated} new images.")
        if task.failures and on_error == "raise":
            raise CalculationError([failure[:2] for failure in task.failures], task.failures[0].traceback)
        return task.failures

    # -- the database --------------------------------------------------------------------------

    @property
    def _keeps(self) -> bool:
        """Whether a handle may stay open: one that notices that its files were removed."""
        return isinstance(self.db, type) and issubclass(self.db, FileDatabase)

    def _reader_kept(self) -> FileDatabase:
        if self._reader is None:
            self._reader = self.db.open(self.filename, "r")
        return self._reader

    def _let_go(self) -> None:
        """Close `d` for others, who may want to write."""
        handle, self.d = self.d, None
        if handle is not None and handle is not self._reader:
            handle.close()

    def _missing(self, images: Mapping[str, object]) -> list[str]:
        with self._looked_at() as handle:
            return missing(handle, images)

    def _needed(self, images: Mapping[str, object]) -> tuple[list[str], bool]:
        """Keys that are not there, and whether the database has yet to note the hash scheme of its keys."""
        with self._looked_at() as handle:
            keys = missing(handle, images)
            return keys, bool(keys) and agree(handle, images, keys, self._place(handle))

    def _looked_at(self) -> Any:
        if self._keeps:
            return contextlib.nullcontext(self._reader_kept())
        return contextlib.closing(self._open_for_a_look())

    def _place(self, handle: Any) -> str:
        return str(getattr(handle, "location", None) or os.fspath(self.filename))

    def _open_for_a_look(self) -> Any:
        try:
            return self.db.open(self.filename, "r")
        except dbm.error:  # includes OSError: shelve cannot open for reading what is not there
            return self.db.open(self.filename, "c")

    @contextlib.contextmanager
    def _writable(self, lease: float, unnoted: Mapping[str, object]) -> Any:
        if self._keeps:
            if self._writer is None:
                self._writer = self.db.open(self.filename, "c")
            note(self._writer, unnoted, self._place(self._writer))
            yield ClaimingSink(self._writer, lease)
            return
        with contextlib.closing(self.db.open(self.filename, "c")) as handle:
            note(handle, unnoted, self._place(handle))
            sink: Sink = ClaimingSink(handle, lease) if hasattr(handle, "claims") else PlainSink(handle)
            yield sink


def _check_keys(keys: Iterable[str]) -> None:
    for key in keys:
        if not isinstance(key, str):
            raise KeyTypeError(key)
        if not key.isascii():
            try:
                key.encode()
            except UnicodeEncodeError as err:
                raise InvalidKeyError(key, "it has half of a surrogate pair, which no text file can hold") from err


class _Module(str):
    """Name of a module that is used as a database: modules do not pickle."""

    __slots__ = ()


def _rebuild(kind: type[Data], filename: str | os.PathLike[str], db: object, calculator: object) -> Data:
    return kind(filename, importlib.import_module(db) if isinstance(db, _Module) else db, calculator)
