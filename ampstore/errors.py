"""Every error that ampstore raises, and the builtin that old `except` clauses expect of it.

    AmpstoreError
    ├── StoreError
    │   ├── MissingStoreError      FileNotFoundError   nothing is there, and the flag says not to create
    │   ├── NotAStoreError         OSError             a file that is something else
    │   ├── ForeignSchemaError     OSError             a schema with objects that would run and are not ours
    │   ├── DamagedStoreError      OSError             SQLite cannot make sense of its own file
    │   ├── NewerStoreError        OSError             written by an ampstore that knows more than this one
    │   ├── OutdatedStoreError     OSError             needs an upgrade that a read-only open may not do
    │   ├── ReadOnlyError          PermissionError     a write through a handle opened with "r"
    │   ├── AccessError            PermissionError     the operating system refused
    │   ├── StorageError           OSError             full disk, quota, I/O error
    │   ├── LostCommitsError       OSError             an older copy, or one whose acknowledged commits are gone
    │   ├── NetworkFileSystemError OSError             a store where several hosts share the file system, and may not be
    │   ├── BusyError              TimeoutError        another process held the store for too long
    │   ├── LocationError          ValueError          a URL that names no database
    │   ├── ConnectionLostError    ConnectionError     a database server that is not there, or went away
    │   └── ClosedError            ValueError          a handle that was closed
    ├── SettingError               ValueError          an environment variable with a value that means nothing
    ├── QueryError                 ValueError          SQL of the user's own that is wrong, or would write
    ├── KeyTypeError               TypeError           a key that is not str
    ├── InvalidKeyError            ValueError          a str that cannot be a key there
    ├── ImageError
    │   ├── NotAnImageError        TypeError           something that is not an ase.Atoms, or not a list of them
    │   ├── UnreadableImagesError  OSError             a file of images that ASE cannot read
    │   ├── ImageFormatError       ValueError          a kind of file that nothing here reads and writes
    │   ├── HashSchemeError        ValueError          a generation of keys that there is not
    │   └── MixedSchemesError      ValueError          keys of two generations in one store
    ├── ParameterTextError         ValueError          a parameter text that is more than literals
    ├── TimerError                 KeyError            a log's timer that was never started
    ├── CalculatorError            TypeError           a calculator that cannot be used as one
    ├── ParallelError              ValueError, KeyError   a `parallel` that does not say where to work
    ├── CoresError                 ValueError          a number of cores that is none
    ├── AllocationError            ValueError, NotImplementedError   a batch job whose variables do not tell its cores
    ├── AmpMissingError            ModuleNotFoundError   no Amp in this Python
    ├── DriverMissingError         ModuleNotFoundError   no driver for a database server in this Python
    ├── WorkerError                RuntimeError        worker processes that do not start or all break
    │   ├── LaunchError            RuntimeError        a node where no worker can be started
    │   └── WorkerLostError        RuntimeError        a worker that is gone while a program waits for it
    ├── CalculationError           RuntimeError        some calculations failed; all other results are stored
    ├── AnnealingError
    │   ├── ScheduleError          ValueError          temperatures, steps or widths that make no search
    │   ├── MoveError              TypeError           a move that gives back nothing that can be used
    │   ├── LossError              ValueError          a loss that is no number, or none to start from
    │   └── CheckpointError        ValueError          a checkpoint of another search, version or generator
    └── CodecError
        ├── EncodeError            TypeError, PicklingError   a value that cannot be pickled
        ├── ForbiddenGlobalError   UnpicklingError     a value that names code outside the allowed names
        ├── EntryTooLargeError     OverflowError       more bytes than one entry may have
        ├── CorruptEntryError      ValueError          stored bytes that are not what was written
        │   └── MissingDictionaryError   ValueError    a payload whose zstd dictionary is not in the store
        ├── UnknownCodecError      LookupError         a codec of another package that is not installed
        └── LegacyPickleError      ValueError          a legacy file that holds no value
            └── DamagedArchiveError    ValueError      an archive whose checksum does not fit its members

`KeyError(key)` for a missing key is Python's own. Errors are rebuilt from their arguments, so they
cross process borders unharmed.
"""

import pickle
import sys
from collections.abc import Sequence


class AmpstoreError(Exception):
    """Base of all errors of ampstore."""


class StoreError(AmpstoreError):
    """A store as a whole cannot do what was asked.

    Parameters
    ----------
    location : str
        Path or URL of the store.
    detail : str
        What is wrong and what to do about it.
    """

    def __init__(self, location: str, detail: str = "") -> None:
        super().__init__(location, detail)
        self.location = location
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.location}: {self.detail or self.sentence}"

    sentence = "the store cannot do this"
    """What is said where there is no detail."""


class MissingStoreError(StoreError, FileNotFoundError):
    """There is no store at this place and the flag forbids to create one."""

    sentence = "there is no store here; open it with flag 'c' to create one"


class NotAStoreError(StoreError, OSError):
    """The file belongs to something else; it was not touched."""

    sentence = (
        "this is not an ampstore store; choose another name or move the file away "
        "(a shelf of the standard library is copied over by new.update(shelve.open(old)))"
    )


class ForeignSchemaError(StoreError, OSError):
    """The file's schema has something that ampstore did not make and that would run on its statements."""

    sentence = "the schema has what ampstore did not make; `ampstore salvage` copies the entries without it"


class DamagedStoreError(StoreError, OSError):
    """SQLite reports a file that contradicts itself."""

    sentence = "the store's file is damaged; `ampstore verify` says what is left, a backup restores it"


class NewerStoreError(StoreError, OSError):
    """The store was written by a newer ampstore."""

    sentence = "the store was written by a newer ampstore; upgrade ampstore"


class OutdatedStoreError(StoreError, OSError):
    """The store has an older format and may not be upgraded through this handle."""

    sentence = "the store has an older format; run `ampstore upgrade` on it"


class ReadOnlyError(StoreError, PermissionError):
    """A write through a read-only handle."""

    sentence = "opened read-only (flag 'r'); open it with 'w' or 'c' to write"


class AccessError(StoreError, PermissionError):
    """The operating system does not let this user at the file."""

    sentence = "permission denied; check the owner and mode of the file and its directory"


class StorageError(StoreError, OSError):
    """The disk is full, over quota or failing. Nothing was half-written."""

    sentence = "the disk refused to store the data; free space and try again"


class LostCommitsError(StoreError, OSError):
    """The store has had fewer durable commits than the file beside it says. Nothing was written."""

    sentence = "acknowledged commits are gone, or this is an older copy; restore a newer one, or accept it as it is"


class NetworkFileSystemError(StoreError, OSError):
    """The store lies on a file system that several hosts share, and cannot be used there like that."""

    sentence = "several hosts may share this file system; keep the store on a local disk and copy it here"


class BusyError(StoreError, TimeoutError):
    """Another process kept the store locked for longer than the time-out."""

    sentence = "another process holds the store; try again or open it with a larger timeout="


class LocationError(StoreError, ValueError):
    """A URL that names no database."""

    sentence = "this URL names no database; postgresql+psycopg://user@host/database does"


class ConnectionLostError(StoreError, ConnectionError):
    """A database server cannot be reached, or went away in the middle of a transaction."""

    sentence = "the database server cannot be reached; check that it runs and that the URL is right"


class ClosedError(StoreError, ValueError):
    """The handle was closed."""

    sentence = "invalid operation on a closed store"


class SettingError(AmpstoreError, ValueError):
    """An environment variable of ampstore has a value that means nothing."""

    def __init__(self, name: str, value: str, choices: Sequence[str]) -> None:
        super().__init__(name, value, tuple(choices))
        self.name, self.value, self.choices = name, value, tuple(choices)

    def __str__(self) -> str:
        return f"{self.name}={self.value!r} means nothing; set it to one of {', '.join(self.choices)}, or unset it"


class QueryError(AmpstoreError, ValueError):
    """SQL of the user's own that SQLite does not understand, or that would do more than read."""

    def __init__(self, sql: str, reason: str) -> None:
        super().__init__(sql, reason)
        self.sql, self.reason = sql, reason

    def __str__(self) -> str:
        return f"{self.sql[:60]!r} cannot be asked: {self.reason}; one SELECT, read-only, is what works here"


class KeyTypeError(AmpstoreError, TypeError):
    """Keys are text."""

    def __init__(self, key: object) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"keys must be str, not {type(self.key).__name__} ({self.key!r}); use str(key)"


class InvalidKeyError(AmpstoreError, ValueError):
    """A text that cannot be a key in this place."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(key, reason)
        self.key, self.reason = key, reason

    def __str__(self) -> str:
        return f"{self.key!r} cannot be a key here: {self.reason}"


class CodecError(AmpstoreError):
    """A value cannot be turned into bytes, or bytes cannot be turned into a value."""


class EncodeError(CodecError, TypeError, pickle.PicklingError):
    """A value that pickle cannot write."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(kind, reason)
        self.kind, self.reason = kind, reason

    def __str__(self) -> str:
        return f"a value of type {self.kind} cannot be stored: {self.reason}"


class ForbiddenGlobalError(CodecError, pickle.UnpicklingError):
    """A pickle that names a function or class outside the allowed names.

    Parameters
    ----------
    module, name : str
        The global that was asked for.
    action : {"read", "write"}
        Which border refused it.
    """

    def __init__(self, module: str, name: str, action: str = "read") -> None:
        super().__init__(module, name, action)
        self.module, self.name, self.action = module, name, action

    def __str__(self) -> str:
        package = self.module.partition(".")[0]
        refused = "reading" if self.action == "read" else "storing"
        ours = package in sys.stdlib_module_names or package in ("__builtin__", "numpy", "ase")
        entry = f"{self.module}.{self.name}" if ours else package
        return (
            f"refused {refused} a value that names {self.module}.{self.name}, which can run code; only if you trust "
            f'where it comes from, open with allow=["{entry}"], or use ampstore.shelve for objects of your own classes'
        )


class EntryTooLargeError(CodecError, OverflowError):
    """More bytes than one entry may have."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(size, limit)
        self.size, self.limit = size, limit

    def __str__(self) -> str:
        return (
            f"a value of {self.size:,} bytes is over the limit of {self.limit:,} bytes for one entry; "
            "split it over several keys"
        )


class CorruptEntryError(CodecError, ValueError):
    """Stored bytes of one entry are not the bytes that were written."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(key, reason)
        self.key, self.reason = key, reason

    def __str__(self) -> str:
        return (
            f"entry {self.key!r} is damaged ({self.reason}); setting it again repairs it, `ampstore verify` lists all"
        )


class MissingDictionaryError(CorruptEntryError):
    """An entry whose payload needs a zstd dictionary that the store does not have.

    Parameters
    ----------
    key : str
    number : int
        Id of the dictionary.
    """

    def __init__(self, key: str, number: int) -> None:
        super().__init__(key, f"the store has no dictionary {number}, with which its payload was compressed")
        self.args = (key, number)
        self.number = number


class UnknownCodecError(CodecError, LookupError):
    """A codec of another package, named by a row or by the caller, that cannot be had here.

    Parameters
    ----------
    key : str or None
        The entry that names it, None if the caller did.
    codec : str
    reason : str
        Why not, and the way out.
    """

    def __init__(self, key: str | None, codec: str, reason: str) -> None:
        super().__init__(key, codec, reason)
        self.key, self.codec, self.reason = key, codec, reason

    def __str__(self) -> str:
        who = "codecs names" if self.key is None else f"entry {self.key!r} was written with"
        return f"{who} the codec {self.codec!r}, {self.reason}"


class LegacyPickleError(CodecError, ValueError):
    """A legacy file or archive member that does not hold one whole value."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(key, reason)
        self.key, self.reason = key, reason

    def __str__(self) -> str:
        return f"legacy entry {self.key!r} holds no value ({self.reason}); setting it again replaces it"


class DamagedArchiveError(LegacyPickleError):
    """A member of an archive whose checksum does not fit: any of its bytes may be another."""

    def __str__(self) -> str:
        return (
            f"legacy entry {self.key!r} may be wrong ({self.reason}); `ampstore salvage` gets it out as unsure, "
            "setting it again replaces it"
        )


class ImageError(AmpstoreError):
    """Atomic structures, or their keys, are not what they should be."""


class NotAnImageError(ImageError, TypeError):
    """Something that is not an `ase.Atoms`, or one alone where a list of them belongs.

    Parameters
    ----------
    kind : str
        Name of the type that was found.
    index : int, optional
        Its position among the images.
    """

    def __init__(self, kind: str, index: int | None = None) -> None:
        super().__init__(kind, index)
        self.kind, self.index = kind, index

    def __str__(self) -> str:
        if self.index is not None:
            return f"image {self.index} is of type {self.kind}, not an ase.Atoms"
        if self.kind == "Atoms":
            return "one Atoms object where a list of images belongs; put it in a list: [atoms]"
        return f"{self.kind} is not an image (ase.Atoms)"


class UnreadableImagesError(ImageError, OSError):
    """A file of images that ASE cannot read, or not to its end."""

    def __init__(self, path: str, reason: str, read: int = 0) -> None:
        super().__init__(path, reason, read)
        self.path, self.reason, self.read = path, reason, read

    def __str__(self) -> str:
        after = f" after {self.read:,} images" if self.read else ""
        return f"{self.path}: no images could be read{after}: {self.reason}"


class ImageFormatError(ImageError, ValueError):
    """A kind of file for images that nothing installed here reads and writes."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class HashSchemeError(ImageError, ValueError):
    """There is no such generation of keys."""

    def __init__(self, scheme: str, known: tuple[str, ...]) -> None:
        super().__init__(scheme, known)
        self.scheme, self.known = scheme, known

    def __str__(self) -> str:
        return f"there is no hash scheme {self.scheme!r}; choose one of {', '.join(self.known)}"


class MixedSchemesError(ImageError, ValueError):
    """The store's keys are of another generation, so nothing in it would ever be found."""

    def __init__(self, where: str, noted: str, scheme: str) -> None:
        super().__init__(where, noted, scheme)
        self.where, self.noted, self.scheme = where, noted, scheme

    def __str__(self) -> str:
        from shlex import quote

        return (
            f"{self.where}: there are keys of hash scheme {self.noted!r}, not {self.scheme!r}; use "
            f"hash_images(images, scheme={self.noted!r}), or change the keys: "
            f"`ampstore rekey {quote(self.where)} IMAGES --from {self.noted} --to {self.scheme}`"
        )


class ParameterTextError(AmpstoreError, ValueError):
    """A parameter text that is damaged, or that asks for more than literals and arrays."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason, line)
        self.reason, self.line = reason, line

    def __str__(self) -> str:
        place = f" (line {self.line})" if self.line else ""
        return f"this is not a parameter text{place}: {self.reason}"


class TimerError(AmpstoreError, KeyError):
    """A log was asked for the time since a moment that was never marked."""

    def __init__(self, label: str | None) -> None:
        super().__init__(label)
        self.label = label

    def __str__(self) -> str:
        if self.label is None:
            return "no timer is running; start it with tic() or tic=True before toc=True"
        return f"no timer {self.label!r} is running; start it with tic({self.label!r})"


class CalculatorError(AmpstoreError, TypeError):
    """An object that cannot be used as a calculator."""

    def __init__(self, kind: str = "", reason: str = "it has no method `calculate` and cannot be called") -> None:
        super().__init__(kind, reason)
        self.kind, self.reason = kind, reason

    def __str__(self) -> str:
        return f"calculator of type {self.kind}: {self.reason}"


class ParallelError(AmpstoreError, ValueError, KeyError):
    """The argument `parallel` does not say where to work."""

    def __init__(self, given: str = "", reason: str = "it has no 'cores'") -> None:
        super().__init__(given, reason)
        self.given, self.reason = given, reason

    def __str__(self) -> str:
        return f"parallel={self.given}: {self.reason}; use for example parallel={{'cores': 4}}"


class CoresError(AmpstoreError, ValueError):
    """What was given for `cores` is no number of cores."""

    def __init__(self, given: str = "") -> None:
        super().__init__(given)
        self.given = given

    def __str__(self) -> str:
        return (
            f"cores={self.given} is no number of cores; give a positive number, a mapping of host to cores such as "
            "{'n1': 16, 'n2': 16}, or None to take what the batch job has"
        )


class AllocationError(AmpstoreError, ValueError, NotImplementedError):
    """The variables of a batch job contradict each other or do not tell its hosts and cores.

    Parameters
    ----------
    variable : str
        The environment variable that is at fault.
    reason : str
        What is wrong with it; nothing of the environment but a part of its value.
    """

    def __init__(self, variable: str = "", reason: str = "") -> None:
        super().__init__(variable, reason)
        self.variable, self.reason = variable, reason

    def __str__(self) -> str:
        return (
            f"environment variable {self.variable}: {self.reason}; say where to work yourself, for example "
            "cores={'localhost': 8} or cores={'n1': 16, 'n2': 16}"
        )


class DriverMissingError(AmpstoreError, ModuleNotFoundError):
    """There is no driver for a database server in this Python.

    Parameters
    ----------
    driver : str
        The module that is missing.
    extra : str
        The extra of ampstore that installs it.
    """

    def __init__(self, driver: str = "", extra: str = "") -> None:
        super().__init__(driver, extra)
        self.driver, self.extra = driver, extra

    def __str__(self) -> str:
        return f"this Python has no {self.driver}; install it with `pip install 'ampstore[{self.extra}]'`"


class AmpMissingError(AmpstoreError, ModuleNotFoundError):
    """There is no Amp in this Python.

    Parameters
    ----------
    interpreter : str
        Path of this Python.
    """

    def __init__(self, interpreter: str = "") -> None:
        super().__init__(interpreter)
        self.interpreter = interpreter

    def __str__(self) -> str:
        return (
            f"{self.interpreter} has no Amp (amp.utilities); install it there with `pip install amp-atomistics`, "
            "or run the Python that has it and install ampstore there"
        )


class WorkerError(AmpstoreError, RuntimeError):
    """Worker processes that do not start, or an executor that broke. What was finished is stored."""


class LaunchError(WorkerError):
    """Nothing can be started on a node.

    Parameters
    ----------
    host : str
    reason : str
    last_lines : str
        What ssh, the node or the worker said last.
    """

    def __init__(self, host: str = "", reason: str = "", last_lines: str = "") -> None:
        super().__init__(host, reason, last_lines)
        self.host, self.reason, self.last_lines = host, reason, last_lines

    def __str__(self) -> str:
        return _with_lines(f"no workers on {self.host}: {self.reason}", self.last_lines)


class WorkerLostError(WorkerError):
    """A worker is gone that a program of Amp waits for; Amp cannot give its work to another.

    Parameters
    ----------
    worker : int
        Its number.
    host : str
    reason : str
    last_lines : str
        What it printed last.
    """

    def __init__(self, worker: int = 0, host: str = "", reason: str = "", last_lines: str = "") -> None:
        super().__init__(worker, host, reason, last_lines)
        self.worker, self.host, self.reason, self.last_lines = worker, host, reason, last_lines

    def __str__(self) -> str:
        text = f"worker {self.worker} on {self.host} is lost: {self.reason}; run the program again"
        return _with_lines(text, self.last_lines)


def _with_lines(text: str, last_lines: str) -> str:
    return f"{text}; its last lines:\n{last_lines}" if last_lines.strip() else text


class CalculationError(AmpstoreError, RuntimeError):
    """Some calculations failed. All others are stored, and the next run computes only what is missing.

    Parameters
    ----------
    failures : sequence of (str, str)
        Key and cause of each.
    traceback : str
        Of the first one, in full.
    """

    def __init__(self, failures: Sequence[tuple[str, str]] = (), traceback: str = "") -> None:
        super().__init__(failures, traceback)
        self.failures, self.traceback = list(failures), traceback

    def __str__(self) -> str:
        failed = "1 calculation" if len(self.failures) == 1 else f"{len(self.failures):,} calculations"
        lines = [f"{failed} failed; all other results are stored"]
        lines += [f"  {key}: {cause}" for key, cause in self.failures[:_LISTED]]
        if len(self.failures) > _LISTED:
            lines.append(f"  and {len(self.failures) - _LISTED:,} more, see the attribute `failures`")
        if self.traceback:
            lines += ["The first one in full:", self.traceback.rstrip()]
        return "\n".join(lines)


_LISTED = 10


class AnnealingError(AmpstoreError):
    """A search by simulated annealing cannot be done as asked."""


class ScheduleError(AnnealingError, ValueError):
    """Temperatures, numbers of steps, widths of moves and the like that make no search."""

    def __init__(self, name: str = "", value: object = None, wanted: str = "") -> None:
        super().__init__(name, value, wanted)
        self.name, self.value, self.wanted = name, value, wanted

    def __str__(self) -> str:
        return f"{self.name}={self.value!r} cannot be used for a search: {self.wanted}"


class MoveError(AnnealingError, TypeError):
    """A move gave back something that says neither where it went nor what that changed."""

    def __init__(self, kind: str = "", returned: str = "NoneType", step: int = 0) -> None:
        super().__init__(kind, returned, step)
        self.kind, self.returned, self.step = kind, returned, step

    def __str__(self) -> str:
        return (
            f"the move {self.kind} returned {self.returned} at step {self.step}; a function returns the new state, an "
            "object with a method `undo` the change of the loss, or ampstore.anneal.EVALUATE if it does not know it"
        )


class LossError(AnnealingError, ValueError):
    """A loss that is not a number, or a search that would begin where the loss is not finite."""

    def __init__(self, found: object = None, step: int = 0) -> None:
        super().__init__(found, step)
        self.found, self.step = found, step

    def __str__(self) -> str:
        if self.step:
            return f"the loss at step {self.step} is {self.found!r}; it must be one number, as float() takes it"
        return f"the loss of the initial state is {self.found!r}; start from a state whose loss is a finite number"


class CheckpointError(AnnealingError, ValueError):
    """A checkpoint that this search cannot go on from. It was not touched."""

    def __init__(self, name: str = "", reason: str = "") -> None:
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return (
            f"the checkpoint {self.name!r} cannot be resumed: {self.reason}; use the search that wrote it, "
            "another name, or resume=False to start anew"
        )
