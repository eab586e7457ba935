"""Which functions and classes a value may name, on the way in and on the way out.

A pickle is a program whose instructions call what it names. Naming whole packages is not enough
(numpy has a function that runs its argument as a program), so the safe names are listed one by
one, and only such as build data. Five more doors are closed here:

* Functions are handed out behind a `Guard` that has no attributes to set: BUILD could otherwise
  change the defaults of the real function for the whole process.
* Guards check the arguments with which ten bytes could ask for ten gigabytes.
* Classes written in Python are handed out behind a `StandIn`, which makes instances but cannot be
  called or changed.
* NumPy believes the state of an array or dtype: a list that is too short, or flags that lie, make it
  follow pointers that are none. Streams that need more than plain numbers are read by a `CarefulReader`.
* What `allow` adds must be defined in the package that it names; what the package merely imports
  (`mypkg.os.system`) is not.

The same rule holds when writing, so that nobody stores what cannot be read back. Values are data:
a class or function may be written as the builder of an instance, not as a value of its own.
"""

import functools
import importlib
import io
import os
import pickle
import sys
from collections import defaultdict
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, BinaryIO

from ampstore.codec.allowed import ANYTHING, Allowed, checked
from ampstore.codec.arrays import NeedsCare
from ampstore.codec.garbage import LARGE, no_garbage_collection
from ampstore.codec.names import CLASSES, GUARDS, ODD_METHOD, canonical, plain_slice, stand_in
from ampstore.codec.opcodes import check_stream, may_nest_deeply
from ampstore.codec.readers import CarefulReader, Reader
from ampstore.errors import CodecError, CorruptEntryError, EncodeError, ForbiddenGlobalError

PROTOCOL = 5

SMALL = 4 << 10
"""Bytes of a stream up to which its writer is kept: the memory of what a larger one named takes long to clear."""

MOST_SOUND = 1 << 16
"""Streams that are known again by their hash: 6 MB."""

# Python's hash of bytes is SipHash with a secret of this process, so nobody outside can make a stream that has the hash
# of another; unless the user has said what the secret is.
_SECRET_HASHES = os.environ.get("PYTHONHASHSEED", "random") in ("", "random")


class Rule:
    """What values may name: the safe globals, and what the caller adds.

    Parameters
    ----------
    allow : iterable of str or "*", default ()
        Packages ("mypkg"), modules ("mypkg.types") or single names ("mypkg.types.Thing"). "*" admits
        everything: pickle's own behaviour, for data that the program itself wrote.

    Raises
    ------
    TypeError
        If `allow` is a text other than "*" (a list was meant).
    """

    def __init__(self, allow: Allowed = ()) -> None:
        self.allow = checked(allow)
        self.anything = self.allow == ANYTHING
        self._found: dict[tuple[str, str], object] = {}
        self.writable: dict[type, bool] = {}
        self._writers: list[_Writer] = []
        self._sound: set[int] = set()

    def dumps(self, value: object, protocol: int = PROTOCOL) -> bytes:
        """Pickle stream of a value.

        Raises
        ------
        EncodeError, ForbiddenGlobalError
        """
        try:
            return pickle.dumps(value, protocol) if self.anything else self._written(value, protocol)
        except CodecError:
            raise
        except (pickle.PicklingError, TypeError, AttributeError, RecursionError, MemoryError) as err:
            raise EncodeError(type(value).__qualname__, f"{type(err).__name__}: {err}") from err

    def _written(self, value: object, protocol: int) -> bytes:
        # Making a writer costs as much as a small value takes to write, so one that met nothing but plain types
        # is used again: 3.5 us for a dictionary of 1 kB where a new one takes 5.3.
        try:
            writer = self._writers.pop() if protocol == PROTOCOL else self._writer(protocol)
        except IndexError:  # the first one, or other threads are using them all
            writer = self._writer(protocol)
        writer.dump(value)
        buffer = writer.buffer
        stream = buffer.getvalue()
        if len(stream) <= SMALL and protocol == PROTOCOL and "_builders" not in writer.__dict__:
            writer.clear_memo()
            buffer.seek(0)
            buffer.truncate()
            self._writers.append(writer)
        return stream

    def _writer(self, protocol: int) -> "_Writer":
        writer = _Writer(buffer := io.BytesIO(), protocol)
        writer.rule, writer.protocol, writer.buffer = self, protocol, buffer
        return writer

    def loads(self, key: str, stream: bytes) -> object:
        """Value of a pickle stream; `key` is for the error.

        Raises
        ------
        ForbiddenGlobalError, CorruptEntryError
        """
        if self.anything:
            return pickle.loads(stream)
        try:
            if len(stream) <= LARGE:
                return self.unpickle(io.BytesIO(stream), careful=self._needs_care(stream))
            check_stream(stream)
            with no_garbage_collection():
                return self.unpickle(io.BytesIO(stream), careful=may_nest_deeply(stream))
        except (CodecError, ImportError):
            raise
        except Exception as err:
            raise CorruptEntryError(key, f"its pickle fails with {type(err).__name__}: {err}") from err

    def _needs_care(self, stream: bytes) -> bool:
        """Whether a stream has to be read with care; refuses what asks for memory, as `check_stream` does."""
        # A dictionary of 1 kB takes 5 us to check and 1 to know again.
        name = hash(stream)
        if name in self._sound:
            return False
        check_stream(stream)
        if may_nest_deeply(stream):
            return True
        if _SECRET_HASHES:
            if len(self._sound) >= MOST_SOUND:
                self._sound.clear()
            self._sound.add(name)
        return False

    def unpickle(self, file: BinaryIO, encoding: str = "ASCII", *, careful: bool = False) -> object:
        """Value of the pickle that is `file`; errors as they come."""
        if not careful:
            try:
                return self.unpickle_quickly(file, encoding)
            except NeedsCare:
                file.seek(0)
        return CarefulReader(file, self, encoding).load()

    def unpickle_quickly(self, file: BinaryIO, encoding: str = "ASCII") -> object:
        """The same where it takes no care; errors as they come.

        Raises
        ------
        NeedsCare
        """
        reader = Reader(file) if encoding == "ASCII" else Reader(file, encoding=encoding)  # 0.2 us less
        reader.rule = self
        value = reader.load()
        if (parts := reader.parts) is None:
            return value
        del reader  # and with it the memo
        if any(part() is not None for part in parts):  # one that lives on stands in the value
            raise NeedsCare
        return value

    def find(self, module: str, name: str) -> object:
        """The global that a stream names, or its guard.

        Raises
        ------
        ForbiddenGlobalError
        """
        known_as = canonical(module, name)
        try:
            return self._found[known_as]
        except KeyError:
            pass
        if self.anything:
            found = _resolve(*known_as)
        elif known_as in GUARDS:
            found = GUARDS[known_as]()
        elif known_as[1] in CLASSES.get(known_as[0], ()):
            found = _resolve(*known_as)
            if isinstance(found, type) and found.__flags__ & _HEAP_TYPE and not found.__flags__ & _IMMUTABLE_TYPE:
                found = stand_in(found)
        elif self.adds(module, name):
            found = _resolve(module, name)
            if not self._defined_inside(found):
                raise ForbiddenGlobalError(module, name)
        else:
            raise ForbiddenGlobalError(module, name)
        self._found[known_as] = found
        return found

    def admits(self, module: str, name: str) -> bool:
        """Whether a stream may name this global."""
        known_as = canonical(module, name)
        known = known_as in GUARDS or name in CLASSES.get(known_as[0], ())
        return known or self.adds(module, name)

    def adds(self, module: str, name: str) -> bool:
        """Whether the caller allowed this global besides the safe ones."""
        path = f"{module}.{name}"
        return any(path == entry or path.startswith(entry + ".") for entry in self.allow)

    def _defined_inside(self, found: object) -> bool:
        home = getattr(found, "__module__", None)
        return callable(found) and isinstance(home, str) and self.adds(home, getattr(found, "__qualname__", ""))


def _resolve(module: str, name: str) -> object:
    found: object = importlib.import_module(module)
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise AttributeError(
                f"module {module!r} has no {name!r}; was it renamed since the value was stored?"
            ) from None
    return found


_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class made by a class statement, or by a newer C module
_IMMUTABLE_TYPE = 1 << 8  # Py_TPFLAGS_IMMUTABLETYPE


class _Writer(pickle.Pickler):
    """Pickler that refuses what the rule could not read back.

    It has no `__init__` of its own: one in Python costs as much as a small value.
    """

    rule: Rule
    protocol: int
    buffer: io.BytesIO

    @functools.cached_property
    def _builders(self) -> set[type]:
        """Types whose instances the value holds."""
        # Before protocol 4 these are built by a call, and reducer_override is not asked about them.
        return {set, frozenset, bytearray, bytes} if self.protocol < 4 else {bytearray}

    def reducer_override(self, value: object) -> Any:
        # Called for all but the simplest builtin types: first for an instance, then for what builds it.
        cls = type(value)
        if issubclass(cls, type) and not _is_dtype(cls):
            self._check_builder(value)  # type: ignore[arg-type]
        elif cls is FunctionType or cls is BuiltinFunctionType:
            self._check_function(value)
        elif cls is MethodType:
            if value.__func__.__name__ != ODD_METHOD:  # type: ignore[attr-defined]
                self._check_function(value)
        else:
            self._check_instance(cls)
            self._builders.add(cls)
            if cls is slice and not plain_slice(value):  # type: ignore[arg-type]
                raise EncodeError("slice", "a slice of slices, tuples or lists could not be read back")
            if cls is defaultdict and isinstance(value.default_factory, type):  # type: ignore[attr-defined]
                self._builders.add(value.default_factory)  # type: ignore[attr-defined]
            if isinstance(value, BaseException):
                # tblib, which Dask brings, registers reducers of its own for all of them, tracebacks included.
                return value.__reduce_ex__(self.protocol)
        return NotImplemented

    def _check_builder(self, cls: type) -> None:
        module, name = cls.__module__, cls.__qualname__
        if not self.rule.admits(module, name):
            raise ForbiddenGlobalError(module, name, "write")
        builds = cls in self._builders
        if not builds and (cls is not object or self.protocol < 2):  # old protocols name the base as well
            builds = any(issubclass(made, cls) for made in self._builders)
        if not builds and not self.rule.adds(module, name):
            raise EncodeError("type", f"{module}.{name} is a class, and values are data; store its name instead")

    def _check_function(self, function: object) -> None:
        module, name = getattr(function, "__module__", None) or "", function.__qualname__  # type: ignore[attr-defined]
        if not self.rule.admits(module, name):
            raise ForbiddenGlobalError(module, name, "write")

    def _check_instance(self, cls: type) -> None:
        writable = self.rule.writable.get(cls)
        if writable is None:
            scalar = "numpy" in sys.modules and issubclass(cls, sys.modules["numpy"].generic)
            writable = scalar or _is_dtype(cls) or self.rule.admits(cls.__module__, cls.__qualname__)
            writable = writable or cls in (type(Ellipsis), type(NotImplemented), pickle.PickleBuffer)
            self.rule.writable[cls] = writable
        if not writable:
            raise ForbiddenGlobalError(cls.__module__, cls.__qualname__, "write")


def _is_dtype(cls: type) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and issubclass(cls, numpy.dtype)
