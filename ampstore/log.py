"""The log of an Amp program, the package's own log, and the time of day as Amp writes it.

`Logger` is what Amp programs write to and what ampstore accepts wherever it takes a `log`; `log` is the standard
library's logger of the package. Each can be led into the other:

    Logger(logging.getLogger("mine"))      lines of an Amp program go to stdlib logging, level INFO
    with logging_into(Logger("a.log")):    what ampstore logs goes to the Amp program's file

What surprises: a time text has a full stop after `min.` and none after `s`, `ms` and `us`, as in Amp.
"""

import contextlib
import datetime
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Self

from ampstore.errors import TimerError
from ampstore.late import package_logger

if TYPE_CHECKING:
    StdlibLogger = logging.Logger | logging.LoggerAdapter[logging.Logger]

log = package_logger()


class Logger:
    """Writes lines, and the time since a moment that was marked.

    Parameters
    ----------
    file : None, str, Path, file object or logging.Logger
        Where to write. None does nothing at all and accepts everything. A path is opened for appending, UTF-8.
    overwrite : bool
        Empty the file of that path first.
    clock : callable, seconds
        Where times come from.

    Attributes
    ----------
    file : file object or None
        None also where lines go to stdlib logging.
    filename : str or None
        The path, if one was given.
    tics : dict of str to float, seconds
        Running timers by label.

    Raises
    ------
    OSError
        If the file of that path cannot be opened.

    Notes
    -----
    Safe in several threads: lines do not mix. A line is one write to a file opened for appending, so processes
    that share a file do not mix theirs either on a local disk.

    A tic on a label that is running starts it anew, as in Amp 0.6.1 (1.x raises): a timer that a failed attempt
    left behind must not stop the next one. A toc ends its timer, as in 1.x.
    """

    def __init__(
        self,
        file: "str | os.PathLike[str] | IO[str] | StdlibLogger | None",
        overwrite: bool = False,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.file: IO[str] | None = None
        self.filename: str | None = None
        self.tics: dict[str, float] = {}
        self._tic: float | None = None
        self._stdlib: StdlibLogger | None = None
        self._clock = clock
        self._lock = threading.RLock()
        if isinstance(file, (str, os.PathLike)):
            self.filename = os.fspath(file)
            self._open("w" if overwrite else "a")
        elif isinstance(file, (logging.Logger, logging.LoggerAdapter)):
            self._stdlib = file
        elif file is None or hasattr(file, "write"):
            self.file = file
        else:
            raise TypeError(f"a Logger writes to a path, a file object or a logging.Logger, not {type(file).__name__}")

    def __call__(
        self,
        message: str,
        toc: bool | str | None = None,
        tic: bool | str = False,
        check: bool | str = False,
        flush: bool = True,
    ) -> None:
        """Write one line.

        Parameters
        ----------
        message : str
            The line without its end.
        toc : bool or str, optional
            Append the time since this timer's start and end it; True is the timer without a name.
        tic : bool or str
            Start a timer.
        check : bool or str
            As `toc`, but the timer goes on.
        flush : bool
            Hand the line to the operating system at once.

        Raises
        ------
        TimerError
            (a KeyError) if `toc` or `check` names a timer that is not running. Nothing is written then.
        ValueError
            If both `toc` and `check` are given, or the file object was closed by its owner.
        """
        if self.file is None and self._stdlib is None:
            return
        if not isinstance(message, str):
            raise TypeError(f"a log message is a str, not {type(message).__name__}")
        if toc and check:
            raise ValueError("a line has one time: give toc or check, not both")
        with self._lock:
            if toc or check:
                message += elapsed_text(self._elapsed(toc or check, end=bool(toc)))
            if tic:
                self._start(tic)
            self._write(message, flush)

    def tic(self, label: str | bool | None = None) -> None:
        """Start a timer.

        Parameters
        ----------
        label : str, optional
            Its name; any number of them can run beside the one without a name.
        """
        if self.file is None and self._stdlib is None:
            return
        with self._lock:
            self._start(label)

    def close(self) -> None:
        """Close the file if this Logger opened it; the next line opens it again."""
        with self._lock:
            if self.filename is not None and self.file is not None:
                self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, mode: str) -> None:
        assert self.filename is not None  # noqa: S101 - only for those that were given as a path
        self.file = open(self.filename, mode, encoding="utf-8")  # noqa: SIM115 - kept open

    def _write(self, line: str, flush: bool) -> None:
        if self._stdlib is not None:
            self._stdlib.info("%s", line, stacklevel=3)
            return
        if self.filename is not None and self.file is not None and self.file.closed:
            self._open("a")
        assert self.file is not None  # noqa: S101 - the caller looked
        self.file.write(line + "\n")
        if flush and hasattr(self.file, "flush"):
            self.file.flush()

    def _start(self, label: str | bool | None) -> None:
        if isinstance(label, str):
            self.tics[label] = self._clock()
        else:
            self._tic = self._clock()

    def _elapsed(self, label: str | bool, end: bool) -> float:
        name = label if isinstance(label, str) else None
        start = self._tic if name is None else self.tics.get(name)
        if start is None:
            raise TimerError(name)
        if end and name is None:
            self._tic = None
        elif end and name is not None:
            del self.tics[name]
        return self._clock() - start


class LoggerHandler(logging.Handler):
    """Handler of stdlib logging that writes every record as a line of a `Logger`.

    Parameters
    ----------
    logger : Logger
        Where to; not one that writes to stdlib logging itself, which would never end.
    level : int
        Records below it are left out.
    """

    def __init__(self, logger: Callable[[str], object], level: int = logging.INFO) -> None:
        super().__init__(level)
        if getattr(logger, "_stdlib", None) is not None:
            raise ValueError("this Logger writes to stdlib logging already; give it a path or a file")
        self.logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            self.logger(self.format(record))
        except Exception:  # noqa: BLE001 - the contract of logging: it reports on stderr and never raises
            self.handleError(record)


@contextlib.contextmanager
def logging_into(
    logger: Callable[[str], object], level: int = logging.INFO, name: str = "ampstore"
) -> Iterator[LoggerHandler]:
    """What ampstore logs goes into an Amp program's log while the block lasts.

    Parameters
    ----------
    logger : Logger
        Or anything that is called with a line.
    level : int
        Records below it are left out.
    name : str
        The stdlib logger to listen to.
    """
    source = logging.getLogger(name)
    handler = LoggerHandler(logger, level)
    before = source.level
    if not source.isEnabledFor(level):
        source.setLevel(level)
    source.addHandler(handler)
    try:
        yield handler
    finally:
        source.removeHandler(handler)
        source.setLevel(before)


def as_log(log: "Callable[..., object] | StdlibLogger | None") -> Callable[..., object]:
    """Something that takes lines as Amp's Logger does.

    Parameters
    ----------
    log : None, Logger, callable or logging.Logger
        What a caller gave as `log`.
    """
    if callable(log):
        return log
    return Logger(log)


def elapsed_text(seconds: float) -> str:
    """A time span as Amp's log has it: a blank, one decimal, the unit.

    Parameters
    ----------
    seconds : float
        The span.

    Returns
    -------
    str
        `` 5.1 min.`` above 60 s, `` 1.5 s`` above 1 s, `` 500.0 ms`` above 1 ms, else `` 2.1 us``.
    """
    if seconds > 60:
        return f" {seconds / 60:.1f} min."
    if seconds > 1:
        return f" {seconds:.1f} s"
    if seconds > 1e-3:
        return f" {seconds * 1e3:.1f} ms"
    return f" {seconds * 1e6:.1f} us"


def now(with_utc: bool = False) -> str:
    """Local time, ISO format to the second, without blanks.

    Parameters
    ----------
    with_utc : bool
        Add the UTC time in parentheses.
    """
    utc = datetime.datetime.now(datetime.UTC)
    local = utc.astimezone()
    if not with_utc:
        return _plain(local)
    return f"{_plain(local)} ({_plain(utc)} UTC)"


def _plain(moment: datetime.datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(timespec="seconds")
