"""Two unpicklers under one rule: a fast one for plain numbers, a careful one for the rest of NumPy."""

import functools
import pickle
import struct
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

from ampstore.codec.arrays import (
    ArrayGuard,
    DtypeGuard,
    NeedsCare,
    PlainDtype,
    ReconstructGuard,
    Unbuilt,
    checked_state,
    dtype_from,
)
from ampstore.codec.guard import Guard, check, class_of

if TYPE_CHECKING:
    from ampstore.codec.safe import Rule


_DEEPEST = 1000  # as deep as a pickler of the default recursion limit writes
_DEEPEST_DTYPE = 50  # numpy's time grows with the square

# The hashes of their instances are those of their attributes. If one of these is a tuple with the instance in it,
# 1000 of Python's calls lie on the stack before the RecursionError, and between them all of C's.
_HASHED_IN_PYTHON = frozenset(("uuid", "fractions", "pathlib", "pathlib._local"))


class Reader(pickle.Unpickler):
    """Unpickler under a rule; of numpy it reads plain numbers only, and arrays that a stream calls with their state.

    It has no `__init__` of its own: one in Python costs as much as a small value.
    """

    rule: "Rule"
    parts: "list[weakref.ref[PlainDtype | Unbuilt]] | None" = None

    def find_class(self, module: str, name: str) -> object:
        found = self.rule.find(module, name)
        if not isinstance(found, (ArrayGuard, DtypeGuard)):
            if module in _HASHED_IN_PYTHON:
                raise NeedsCare
            return found
        if self.parts is None:
            self.parts = []
        if isinstance(found, DtypeGuard):
            return Guard(functools.partial(_plain_dtype, found, self.parts))
        if isinstance(found, ReconstructGuard):
            return Guard(functools.partial(_unbuilt, self.parts))
        raise NeedsCare


def _unbuilt(made: "list[weakref.ref[PlainDtype | Unbuilt]]", named: object, shape: object, code: object) -> Unbuilt:
    from numpy import ndarray

    if class_of(named) is not ndarray or shape != (0,) or code not in (b"b", "b"):
        raise NeedsCare
    unbuilt = Unbuilt(ndarray)
    made.append(weakref.ref(unbuilt))
    return unbuilt


def _plain_dtype(guard: DtypeGuard, made: "list[weakref.ref[PlainDtype | Unbuilt]]", *arguments: object) -> PlainDtype:
    dtype: Any = guard(*arguments)
    if dtype.hasobject or dtype.kind == "V":
        raise NeedsCare
    plain = PlainDtype(dtype)
    made.append(weakref.ref(plain))
    return plain


class CarefulReader(pickle._Unpickler):
    """Unpickler under a rule, in Python: it sees what is handed to numpy and to instances.

    Arrays cost about twice the time, small values ten times. Tuples and arrays within each other are counted:
    hashing and deleting them calls itself in C, without a limit.
    """

    def __init__(self, file: BinaryIO, rule: "Rule", encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self._rule = rule
        self._depths: dict[int, int] = {}  # by id: of an object that is gone it is the depth of its successor at most

    def find_class(self, module: str, name: str) -> object:
        return self._rule.find(module, name)

    def load_build(self) -> None:
        from numpy import dtype, ndarray

        stack: list[Any] = self.stack  # type: ignore[attr-defined]
        state, made = stack.pop(), stack[-1]
        if isinstance(made, ndarray):
            made.__setstate__(checked_state(made, state))
            if made.dtype.hasobject:
                self._enter(made, state[4])
        elif isinstance(made, dtype):
            # A state of numpy's own making, not that of the stream, which numpy would believe.
            honest = dtype_from(made, state)
            made.__setstate__(honest.__reduce__()[2])  # type: ignore[attr-defined]
            self._enter(made, _parts(state), _DEEPEST_DTYPE)
            check(made == honest and (made.itemsize, made.flags) == (honest.itemsize, honest.flags), "dtype")
        else:
            _check_attributes(made, state)
            stack.append(state)
            super().load_build()  # type: ignore[misc]

    def _enter(self, outer: object, inner: Iterable[object], deepest: int = _DEEPEST) -> None:
        depth = 1 + max((self._depths[id(item)] for item in inner if id(item) in self._depths), default=0)
        check(depth <= deepest, "a value within itself, or within so many others")
        self._depths[id(outer)] = depth

    def load_tuple(self) -> None:
        super().load_tuple()  # type: ignore[misc]
        self._enter(self.stack[-1], self.stack[-1])  # type: ignore[attr-defined]

    def load_tuple1(self) -> None:
        super().load_tuple1()  # type: ignore[misc]
        self._enter(self.stack[-1], self.stack[-1])  # type: ignore[attr-defined]

    def load_tuple2(self) -> None:
        super().load_tuple2()  # type: ignore[misc]
        self._enter(self.stack[-1], self.stack[-1])  # type: ignore[attr-defined]

    def load_tuple3(self) -> None:
        super().load_tuple3()  # type: ignore[misc]
        self._enter(self.stack[-1], self.stack[-1])  # type: ignore[attr-defined]

    def load_newobj(self) -> None:
        check(isinstance(self.stack[-2], type), "NEWOBJ")  # type: ignore[attr-defined]
        super().load_newobj()  # type: ignore[misc]

    def load_newobj_ex(self) -> None:
        check(isinstance(self.stack[-3], type), "NEWOBJ_EX")  # type: ignore[attr-defined]
        super().load_newobj_ex()  # type: ignore[misc]

    def load_bytearray8(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))  # type: ignore[attr-defined]
        self.append(bytearray(self.read(size)))  # type: ignore[attr-defined]

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **pickle._Unpickler.dispatch,
        pickle.BUILD[0]: load_build,
        pickle.NEWOBJ[0]: load_newobj,
        pickle.NEWOBJ_EX[0]: load_newobj_ex,
        pickle.BYTEARRAY8[0]: load_bytearray8,
        pickle.TUPLE[0]: load_tuple,
        pickle.TUPLE1[0]: load_tuple1,
        pickle.TUPLE2[0]: load_tuple2,
        pickle.TUPLE3[0]: load_tuple3,
    }


def _parts(state: Any) -> list[object]:
    """Dtypes within a dtype, from a state that numpy took."""
    _, _, inner, _, fields, *_ = state
    return [part[0] for part in (fields or {}).values()] + ([inner[0]] if inner else [])


def _check_attributes(made: object, state: Any) -> None:
    """Refuse attributes that no writer gives to an instance whose hash they are."""
    home = type(made).__module__
    if home == "uuid":
        check(type(state) is dict and type(state.get("int")) is int and state.keys() <= {"int", "is_safe"}, "UUID")
        check(type(state.get("is_safe", 0)) is int, "UUID")
    else:
        check(home not in _HASHED_IN_PYTHON, type(made).__name__)
