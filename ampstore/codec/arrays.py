"""Builders of NumPy's arrays, numbers and dtypes.

NumPy believes the state of an array or dtype: a list that is too short, or flags that lie, make it
follow pointers that are none. So dtypes are made anew by NumPy's own constructors, and states of
arrays are compared with what they claim.
"""

import copy
import importlib
import math
import re
from collections.abc import Callable
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ampstore.codec.guard import Guard, check, class_of

if TYPE_CHECKING:
    import numpy

_ONE_DTYPE = re.compile(r"[<>=|]?[A-Za-z?][A-Za-z0-9_]*(\[\w+\])?")


def _array_class(named: object) -> type:
    import numpy

    cls = class_of(named)
    check(issubclass(cls, numpy.ndarray), "_reconstruct")
    return cls


# The builders of numpy are called for every array, so each is made once, with what it needs bound.


class ArrayGuard(Guard):
    """Builder of arrays that get their contents by BUILD, which only a `CarefulReader` checks."""

    __slots__ = ()


class ReconstructGuard(ArrayGuard):
    """Builder of arrays of numpy's own class."""

    __slots__ = ()


class DtypeGuard(Guard):
    """Builder of dtypes."""

    __slots__ = ()


class NeedsCare(Exception):  # noqa: N818 - no error, a change of readers
    """The stream holds more of numpy than plain numbers."""


class PlainDtype:
    """A dtype of plain numbers, text or times on the stack of a `Reader`, where numpy cannot be handed it."""

    __slots__ = ("__weakref__", "dtype")

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype

    def __setstate__(self, state: Any) -> None:
        try:
            self.dtype = _plain_dtype_from(self.dtype, state)
        except TypeError:  # what cannot be hashed
            self.dtype = dtype_from(self.dtype, state)
        if self.dtype.hasobject or self.dtype.kind == "V":
            raise NeedsCare


class Unbuilt:
    """An array without shape and numbers on the stack of a `Reader`; called with its state it gives the array."""

    __slots__ = ("__weakref__", "_cls")

    def __init__(self, cls: Any) -> None:
        self._cls = cls

    def __setstate__(self, state: Any) -> None:
        raise NeedsCare

    def __call__(self, version: Any, shape: Any, kind: Any, fortran: Any, data: Any) -> Any:
        """Array of plain numbers; see `ampstore.codec.text` for who calls."""
        check(type(kind) is PlainDtype, "ndarray")
        _check_shape(shape, kind.dtype)
        array = self._cls((0,), "b")
        array.__setstate__((version, shape, kind.dtype, fortran, data))
        return array


def _copy_of(kind: Any) -> Any:
    """A dtype that the stream cannot reach."""
    import numpy

    made: Any = numpy.dtype(kind, False, True)
    return made if made is not kind else copy.copy(kind)  # numpy copies only those that it has itself


def dtype_from(kind: Any, state: Any) -> Any:
    """The dtype that a state speaks of, made by numpy's own checked constructors."""
    import numpy

    check(type(state) is tuple and len(state) in (8, 9) and kind.names is None and kind.subdtype is None, "dtype")
    _, order, inner, names, fields, size, _, flags, *metadata = state
    order = order.decode("latin-1") if isinstance(order, bytes) else order
    check(order in ("<", ">", "|", "=") and type(size) is int and type(flags) is int, "dtype")
    plain: dict[str, Any]
    made: Any
    if inner is not None:
        made = numpy.dtype((_copy_of(inner[0]), inner[1]))
    elif names is not None or fields is not None:
        parts = [fields[name] for name in names]
        plain = {"names": list(names), "formats": [_copy_of(part[0]) for part in parts]}
        plain |= {"offsets": [part[1] for part in parts], "itemsize": size}
        if any(len(part) > 2 for part in parts):
            plain["titles"] = [part[2] if len(part) > 2 else None for part in parts]
        made = numpy.dtype(plain, bool(flags & _ALIGNED))  # type: ignore[call-overload]
    elif kind.kind in "SUV":
        check(size >= 0, "dtype")
        made = numpy.dtype(f"{order}{kind.kind}{size // 4 if kind.kind == 'U' else size}")
    elif kind.kind in "mM":
        extra, (unit, count, *_) = metadata[0]
        unit = unit.decode("latin-1") if isinstance(unit, bytes) else unit
        check(re.fullmatch("[A-Za-z]{1,7}", unit) is not None and type(count) is int and count > 0, "dtype")
        made = numpy.dtype(f"{order}{kind.kind}8" + ("" if unit == "generic" else f"[{count}{unit}]"))
        metadata = [extra]
    else:
        made = kind.newbyteorder(order)
    if metadata and type(metadata[0]) is dict and metadata[0]:
        made = numpy.dtype(made, metadata=metadata[0])
    check(made.kind == kind.kind, "dtype")
    return made


_plain_dtype_from = lru_cache(maxsize=256, typed=True)(dtype_from)  # a pickle of NumPy 2 may have one for every number

_ALIGNED = 0x80  # NPY_ALIGNED_STRUCT


def checked_state(array: "numpy.ndarray[Any, Any]", state: Any) -> Any:
    """State for `ndarray.__setstate__`, which compares neither the length of a list nor what a dtype says."""
    import numpy

    check(type(state) is tuple and len(state) in (5, 7) and not array.size, "ndarray")
    version, shape, kind, fortran, data, *mask = state
    check(isinstance(kind, numpy.dtype), "ndarray")
    count = _check_shape(shape, kind)
    if kind.hasobject:
        check(type(data) is list and len(data) == count, "ndarray")
    return (version, shape, _copy_of(kind), fortran, data, *mask)


def _check_shape(shape: Any, kind: Any) -> int:
    """Number of items of an array."""
    check(type(shape) is tuple, "ndarray")
    for length in shape:  # a microsecond less than `all`, for each of the arrays
        check(type(length) is int and length >= 0, "ndarray")
    count: int = math.prod(shape)
    check(kind.itemsize > 0 or count <= _MOST_EMPTY_ITEMS, "ndarray")
    return count


_MOST_EMPTY_ITEMS = 1 << 20
"""Items without bytes cost nothing to store, but whoever walks the array walks them all."""


def reconstruct_guard() -> Guard:
    """Builder of `_reconstruct`: an empty array, which BUILD fills."""
    from numpy import ndarray

    def reconstruct(named: object, shape: object, code: object) -> object:
        # Every writer makes an empty array here; shape and bytes come with BUILD, where numpy compares them.
        check(shape == (0,) and code in (b"b", "b"), "_reconstruct")
        return ndarray.__new__(_array_class(named), (0,), "b")

    return ReconstructGuard(reconstruct)


def _own_dtype(kind: Any) -> Any:
    import numpy

    if type(kind) is PlainDtype:
        return kind.dtype
    check(isinstance(kind, numpy.dtype) and not kind.hasobject, "dtype")
    return _copy_of(kind)


def scalar_guard() -> Guard:
    """Builder of `scalar`: one number with its bytes."""
    scalar = _numpy("multiarray").scalar

    def build(kind: object, data: object = b"") -> object:
        if isinstance(data, str):  # a Python 2 writer
            data = data.encode("latin-1")
        return scalar(_own_dtype(kind), data)

    return Guard(build)


def frombuffer_guard() -> Guard:
    """Builder of `_frombuffer`: a whole array of protocol 5."""
    frombuffer = _numpy("numeric")._frombuffer

    def build(data: object, kind: object, shape: object, order: object, *axes: object) -> object:
        check(isinstance(data, (bytes, bytearray)), "_frombuffer")
        return frombuffer(data, _own_dtype(kind), shape, order, *axes)

    return Guard(build)


def dtype_guard() -> Guard:
    """Builder of dtypes, never one of numpy's own."""
    from numpy import dtype

    def build(spec: object, align: object = False, _: object = True) -> object:
        # A copy, always: BUILD on one of numpy's own dtypes would change it for the whole process.
        if isinstance(spec, Guard):
            spec = spec.cls  # type: ignore[attr-defined]
        if isinstance(spec, bytes):
            spec = spec.decode("latin-1")
        # Other texts are expressions, for which numpy calls Python's compiler.
        check(isinstance(spec, type) or (isinstance(spec, str) and _ONE_DTYPE.fullmatch(spec) is not None), "dtype")
        return dtype(spec, bool(align), True)  # type: ignore[call-overload]

    return DtypeGuard(build)


def masked_guard() -> Guard:
    """Builder of `_mareconstruct`: an empty masked array."""
    from numpy.ma import MaskedArray, core

    def build(named: object, base: object, shape: object, code: object) -> object:
        cls = class_of(named)
        check(shape == (0,) and code in (b"b", "b") and issubclass(cls, MaskedArray), "_mareconstruct")
        return core._mareconstruct(cls, _array_class(base), (0,), "b")  # type: ignore[attr-defined]

    return ArrayGuard(build)


def _numpy(module: str) -> ModuleType:
    try:
        return importlib.import_module(f"numpy._core.{module}")
    except ModuleNotFoundError:  # NumPy 1
        return importlib.import_module(f"numpy.core.{module}")


def numpy_class(name: str) -> Callable[[], Guard]:
    """Name of one of numpy's classes."""

    def find() -> Guard:
        import numpy

        return Guard(None, getattr(numpy, name))

    return find


def masked_class() -> Guard:
    """Name of the class of masked arrays."""
    from numpy.ma import MaskedArray

    return Guard(None, MaskedArray)
