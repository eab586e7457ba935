"""Every error that ampstore raises, and the builtin that old `except` clauses expect of it.

    AmpstoreError
    ├── StoreError
    │   ├── MissingStoreError      FileNotFoundError   nothing is there, and the flag says not to create
    │   ├── NotAStoreError         OSError             a file that is something else
    │   ├── DamagedStoreError      OSError             SQLite cannot make sense of its own file
    │   ├── NewerStoreError        OSError             written by an ampstore that knows more than this one
    │   ├── OutdatedStoreError     OSError             needs an upgrade that a read-only open may not do
    │   ├── ReadOnlyError          PermissionError     a write through a handle opened with "r"
    │   ├── AccessError            PermissionError     the operating system refused
    │   ├── StorageError           OSError             full disk, quota, I/O error
    │   ├── BusyError              TimeoutError        another process held the store for too long
    │   └── ClosedError            ValueError          a handle that was closed
    ├── KeyTypeError               TypeError           a key that is not str
    ├── InvalidKeyError            ValueError          a str that cannot be a key there
    └── CodecError
        ├── EncodeError            TypeError, PicklingError   a value that cannot be pickled
        ├── ForbiddenGlobalError   UnpicklingError     a value that names code outside the allowed names
        ├── EntryTooLargeError     OverflowError       more bytes than one entry may have
        ├── CorruptEntryError      ValueError          stored bytes that are not what was written
        └── LegacyPickleError      ValueError          a legacy file that holds no value

`KeyError(key)` for a missing key is Python's own. Errors are rebuilt from their arguments, so they
cross process borders unharmed.
"""

import pickle
import sys


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

    sentence = "this is not an ampstore store; choose another name or move the file away"


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


class BusyError(StoreError, TimeoutError):
    """Another process kept the store locked for longer than the time-out."""

    sentence = "another process holds the store; try again or open it with a larger timeout="


class ClosedError(StoreError, ValueError):
    """The handle was closed."""

    sentence = "invalid operation on a closed store"


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


class LegacyPickleError(CodecError, ValueError):
    """A legacy file or archive member that does not hold one whole value."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(key, reason)
        self.key, self.reason = key, reason

    def __str__(self) -> str:
        return f"legacy entry {self.key!r} holds no value ({self.reason}); setting it again replaces it"
