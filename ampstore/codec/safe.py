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
  follow pointers that are none. Streams that need more than plain numbers are read by a `_CarefulReader`.
* What `allow` adds must be defined in the package that it names; what the package merely imports
  (`mypkg.os.system`) is not.

The same rule holds when writing, so that nobody stores what cannot be read back. Values are data:
a class or function may be written as the builder of an instance, not as a value of its own.
"""

import builtins
import collections
import contextlib
import copy
import fractions
import functools
import gc
import importlib
import io
import math
import pickle
import re
import struct
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from types import MethodType, ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ampstore.errors import CodecError, CorruptEntryError, EncodeError, ForbiddenGlobalError

if TYPE_CHECKING:
    import numpy

Anything = Literal["*"]
Allowed = Iterable[str] | Anything
ANYTHING: Anything = "*"

PROTOCOL = 5

_EXCEPTIONS = [name for name, cls in vars(builtins).items() if isinstance(cls, type) and issubclass(cls, BaseException)]

# Constants, and classes: those written in C may be called with anything and cannot be changed by BUILD,
# those written in Python become stand-ins.
CLASSES: dict[str, list[str]] = {
    "builtins": ["complex", "range", "slice", "Ellipsis", "NotImplemented", *_EXCEPTIONS],
    "datetime": ["date", "time", "datetime", "timedelta", "timezone"],
    "decimal": ["Decimal"],
    "fractions": ["Fraction"],
    "collections": ["OrderedDict", "defaultdict", "deque", "Counter", "ChainMap"],
    "pathlib": ["PurePath", "PurePosixPath", "PureWindowsPath", "Path", "PosixPath", "WindowsPath"],
    "uuid": ["UUID"],
    "ase.atoms": ["Atoms"],
    "ase.atom": ["Atom"],
    "ase.cell": ["Cell"],
    "ase.symbols": ["Symbols"],
    "ase.formula": ["Formula"],
    "ase.constraints": [
        "FixAtoms",
        "FixCom",
        "FixBondLengths",
        "FixedPlane",
        "FixedLine",
        "FixedMode",
        "FixScaled",
        "FixCartesian",
        "FixInternals",
        "FixParametricRelations",
        "FixScaledParametricRelations",
        "FixCartesianParametricRelations",
        "FixSymmetry",
        "FixLinearTriatomic",
        "Hookean",
        "ExternalForce",
        "MirrorForce",
        "MirrorTorque",
    ],
    "ase.calculators.singlepoint": ["SinglePointCalculator", "SinglePointDFTCalculator", "SinglePointKPoint"],
    "ase.calculators.calculator": ["Parameters"],
    "ase.neighborlist": ["NeighborList", "PrimitiveNeighborList", "NewPrimitiveNeighborList"],
    "ase.dft.kpoints": ["BandPath"],
    "ase.lattice": ["BravaisLattice"],
    "ase.db.row": ["AtomsRow"],
}


class Guard:
    """A builder that a stream can call but not change."""

    __slots__ = ("_build", "cls")

    def __init__(self, build: Callable[..., object] | None, cls: type | None = None) -> None:
        object.__setattr__(self, "_build", build)
        object.__setattr__(self, "cls", cls)

    def __setattr__(self, name: str, value: object) -> None:
        raise pickle.UnpicklingError("a stream tried to change a builder")

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("a stream tried to change a builder")

    def __call__(self, *arguments: object) -> object:
        """Build, with arguments that the stream gives."""
        if self._build is None:  # type: ignore[attr-defined]
            raise pickle.UnpicklingError(f"a stream called {self.cls!r}, which only names a type")  # type: ignore[attr-defined]
        return self._build(*arguments)  # type: ignore[attr-defined]


class StandIn(type):
    """Stand-in for a class written in Python: makes its instances, and that is all.

    NEWOBJ insists on a type, so a `Guard` does not do.
    """

    real: type
    build: Callable[..., object] | None

    def __call__(cls, *arguments: object) -> object:
        """Build an instance, where writers build it by a call."""
        if cls.build is None:
            raise pickle.UnpicklingError(f"a stream called {cls.real!r}, which no writer does")
        return cls.build(cls.real, *arguments)

    def __setattr__(cls, name: str, value: object) -> None:
        raise pickle.UnpicklingError("a stream tried to change a class")

    def __setstate__(cls, state: object) -> None:
        raise pickle.UnpicklingError("a stream tried to change a class")


def _stand_in(real: type) -> StandIn:
    def new(_: type, *arguments: object) -> object:
        return real.__new__(real, *arguments)

    build = staticmethod(_CALLS[real.__module__]) if real.__module__ in _CALLS else None
    return StandIn(real.__name__, (), {"__slots__": (), "__new__": new, "real": real, "build": build})


def _path(cls: type, *parts: object) -> object:
    _check(all(type(part) is str for part in parts), cls.__name__)
    return cls(*parts)


def _tally(cls: type, items: object = ()) -> object:
    _check(type(items) in (list, tuple, dict), cls.__name__)
    return cls(items)


_CALLS: dict[str, Callable[..., object]] = {"pathlib": _path, "pathlib._local": _path, "collections": _tally}
"""Modules with classes whose instances are built by a call; the others are made empty and then filled."""


def _check(condition: bool, builder: str) -> None:
    if not condition:
        raise pickle.UnpicklingError(f"arguments of {builder} that no writer gives")


def _class_of(named: object) -> type:
    cls = named.cls if isinstance(named, Guard) else named  # type: ignore[attr-defined]
    _check(isinstance(cls, type), "a type")
    if isinstance(cls, StandIn):
        return cls.real
    return cls  # type: ignore[return-value]


def _set(items: object = ()) -> set[object]:
    _check(type(items) in (list, tuple), "set")
    return set(items)  # type: ignore[call-overload, no-any-return]


def _frozenset(items: object = ()) -> frozenset[object]:
    _check(type(items) in (list, tuple), "frozenset")
    return frozenset(items)  # type: ignore[call-overload, no-any-return]


def _bytearray(data: Any = b"", encoding: str = "latin-1") -> bytearray:
    _check(type(data) in (bytes, str) and encoding in ("latin-1", "latin1"), "bytearray")
    return bytearray(data.encode("latin-1") if isinstance(data, str) else data)


def _bytes(*arguments: object) -> bytes:
    _check(not arguments, "bytes")
    return b""


def _encode(text: object, encoding: str) -> bytes:
    _check(type(text) is str and encoding in ("latin-1", "latin1"), "_codecs.encode")
    return text.encode("latin-1")  # type: ignore[attr-defined, no-any-return]


def _reconstructor(named: object, base: object, state: Any) -> object:
    """What `copyreg._reconstructor` does: protocols 0 and 1 build instances with it."""
    cls: Any = _class_of(named)
    builtin: Any = _class_of(base)
    _check(isinstance(named, type) and builtin in (object, list, dict, str, int, float, tuple), "_reconstructor")
    if builtin is object:
        return object.__new__(cls)
    _check(type(state) is builtin, "_reconstructor")
    made = builtin.__new__(cls, state)
    if builtin in (list, dict):
        builtin.__init__(made, state)
    return made


def _defaultdict(factory: object = None, *arguments: object) -> "collections.defaultdict[object, object]":
    _check(not arguments, "defaultdict")
    return collections.defaultdict(None if factory is None else _class_of(factory))


def _deque(items: object = (), maxlen: int | None = None) -> "collections.deque[object]":
    _check(type(items) in (list, tuple), "deque")
    return collections.deque(items, maxlen)  # type: ignore[call-overload, no-any-return]


def _ordered_dict(items: object = ()) -> "collections.OrderedDict[object, object]":
    _check(type(items) in (list, tuple, dict), "OrderedDict")
    return collections.OrderedDict(items)  # type: ignore[call-overload, no-any-return]


def _fraction(numerator: Any, denominator: Any = 1) -> fractions.Fraction:
    # Fraction("1e999999999") would compute that power of ten.
    if isinstance(numerator, str):
        _check(re.fullmatch(r"-?\d{1,4000}(/\d{1,4000})?", numerator) is not None and denominator == 1, "Fraction")
        return fractions.Fraction(numerator)
    _check(type(numerator) is int and type(denominator) is int, "Fraction")
    return fractions.Fraction(numerator, denominator)


ODD_METHOD = "_deprecated_get_spin_polarized"
"""Calculators of newer ASE keep this method of theirs as an attribute, which pickle writes as `getattr`."""


def _getattr(owner: object, name: str) -> object:
    known = type(owner).__name__ in CLASSES.get(type(owner).__module__, ())
    _check(known and type(owner).__module__ == "ase.calculators.singlepoint" and name == ODD_METHOD, "getattr")
    return getattr(owner, name)


def _exception(cls: type) -> Callable[[], Guard]:
    """Guard of an exception that turns its second argument into a tuple, however long that gets."""

    def build(*arguments: object) -> object:
        _check(len(arguments) < 2 or type(arguments[1]) in (list, tuple, str, type(None)), cls.__name__)
        return cls(*arguments)

    return lambda: Guard(build, cls)


def _array_class(named: object) -> type:
    import numpy

    cls = _class_of(named)
    _check(issubclass(cls, numpy.ndarray), "_reconstruct")
    return cls


# The builders of numpy are called for every array, so each is made once, with what it needs bound.


class _ArrayGuard(Guard):
    """Builder of arrays that get their contents by BUILD, which only a `_CarefulReader` checks."""

    __slots__ = ()


class _DtypeGuard(Guard):
    """Builder of dtypes."""

    __slots__ = ()


class _NeedsCare(Exception):  # noqa: N818 - no error, a change of readers
    """The stream holds more of numpy than plain numbers."""


class _PlainDtype:
    """A dtype of plain numbers, text or times on the stack of a `_Reader`, where numpy cannot be handed it."""

    __slots__ = ("__weakref__", "dtype")

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype

    def __setstate__(self, state: Any) -> None:
        self.dtype = _dtype_from(self.dtype, state)
        if self.dtype.hasobject or self.dtype.kind == "V":
            raise _NeedsCare


def _copy_of(kind: Any) -> Any:
    """A dtype that the stream cannot reach."""
    import numpy

    made: Any = numpy.dtype(kind, False, True)
    return made if made is not kind else copy.copy(kind)  # numpy copies only those that it has itself


def _dtype_from(kind: Any, state: Any) -> Any:
    """The dtype that a state speaks of, made by numpy's own checked constructors."""
    import numpy

    _check(type(state) is tuple and len(state) in (8, 9) and kind.names is None and kind.subdtype is None, "dtype")
    _, order, inner, names, fields, size, _, flags, *metadata = state
    order = order.decode("latin-1") if isinstance(order, bytes) else order
    _check(order in ("<", ">", "|", "=") and type(size) is int and type(flags) is int, "dtype")
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
        _check(size >= 0, "dtype")
        made = numpy.dtype(f"{order}{kind.kind}{size // 4 if kind.kind == 'U' else size}")
    elif kind.kind in "mM":
        extra, (unit, count, *_) = metadata[0]
        unit = unit.decode("latin-1") if isinstance(unit, bytes) else unit
        _check(re.fullmatch("[A-Za-z]{1,7}", unit) is not None and type(count) is int and count > 0, "dtype")
        made = numpy.dtype(f"{order}{kind.kind}8" + ("" if unit == "generic" else f"[{count}{unit}]"))
        metadata = [extra]
    else:
        made = kind.newbyteorder(order)
    if metadata and type(metadata[0]) is dict and metadata[0]:
        made = numpy.dtype(made, metadata=metadata[0])
    _check(made.kind == kind.kind, "dtype")
    return made


_ALIGNED = 0x80  # NPY_ALIGNED_STRUCT


def _checked_state(array: "numpy.ndarray[Any, Any]", state: Any) -> Any:
    """State for `ndarray.__setstate__`, which compares neither the length of a list nor what a dtype says."""
    import numpy

    _check(type(state) is tuple and len(state) in (5, 7) and not array.size, "ndarray")
    version, shape, kind, fortran, data, *mask = state
    _check(type(shape) is tuple and all(type(length) is int and length >= 0 for length in shape), "ndarray")
    _check(isinstance(kind, numpy.dtype), "ndarray")
    count = math.prod(shape)
    if kind.hasobject:
        _check(type(data) is list and len(data) == count, "ndarray")
    _check(kind.itemsize > 0 or count <= _MOST_EMPTY_ITEMS, "ndarray")
    return (version, shape, _copy_of(kind), fortran, data, *mask)


_MOST_EMPTY_ITEMS = 1 << 20
"""Items without bytes cost nothing to store, but whoever walks the array walks them all."""


def _reconstruct_guard() -> Guard:
    from numpy import ndarray

    def reconstruct(named: object, shape: object, code: object) -> object:
        # Every writer makes an empty array here; shape and bytes come with BUILD, where numpy compares them.
        _check(shape == (0,) and code in (b"b", "b"), "_reconstruct")
        return ndarray.__new__(_array_class(named), (0,), "b")

    return _ArrayGuard(reconstruct)


def _own_dtype(kind: Any) -> Any:
    import numpy

    if type(kind) is _PlainDtype:
        return kind.dtype
    _check(isinstance(kind, numpy.dtype) and not kind.hasobject, "dtype")
    return _copy_of(kind)


def _scalar_guard() -> Guard:
    scalar = _numpy("multiarray").scalar

    def build(kind: object, data: object = b"") -> object:
        if isinstance(data, str):  # a Python 2 writer
            data = data.encode("latin-1")
        return scalar(_own_dtype(kind), data)

    return Guard(build)


def _frombuffer_guard() -> Guard:
    frombuffer = _numpy("numeric")._frombuffer

    def build(data: object, kind: object, shape: object, order: object, *axes: object) -> object:
        _check(isinstance(data, (bytes, bytearray)), "_frombuffer")
        return frombuffer(data, _own_dtype(kind), shape, order, *axes)

    return Guard(build)


def _dtype_guard() -> Guard:
    from numpy import dtype

    def build(spec: object, align: object = False, _: object = True) -> object:
        # A copy, always: BUILD on one of numpy's own dtypes would change it for the whole process.
        if isinstance(spec, Guard):
            spec = spec.cls  # type: ignore[attr-defined]
        _check(isinstance(spec, (str, bytes, type)), "dtype")
        return dtype(spec, bool(align), True)  # type: ignore[call-overload]

    return _DtypeGuard(build)


def _masked_guard() -> Guard:
    from numpy.ma import MaskedArray, core

    def build(named: object, base: object, shape: object, code: object) -> object:
        cls = _class_of(named)
        _check(shape == (0,) and code in (b"b", "b") and issubclass(cls, MaskedArray), "_mareconstruct")
        return core._mareconstruct(cls, _array_class(base), (0,), "b")  # type: ignore[attr-defined]

    return _ArrayGuard(build)


def _numpy(module: str) -> ModuleType:
    try:
        return importlib.import_module(f"numpy._core.{module}")
    except ModuleNotFoundError:  # NumPy 1
        return importlib.import_module(f"numpy.core.{module}")


def _numpy_class(name: str) -> Callable[[], Guard]:
    def find() -> Guard:
        import numpy

        return Guard(None, getattr(numpy, name))

    return find


def _masked_class() -> Guard:
    from numpy.ma import MaskedArray

    return Guard(None, MaskedArray)


def _guarded(build: Callable[..., object]) -> Callable[[], Guard]:
    return lambda: Guard(build)


GUARDS: dict[tuple[str, str], Callable[[], Guard]] = {
    ("builtins", "set"): lambda: Guard(_set, set),
    ("builtins", "frozenset"): lambda: Guard(_frozenset, frozenset),
    ("builtins", "bytearray"): lambda: Guard(_bytearray, bytearray),
    ("builtins", "bytes"): lambda: Guard(_bytes, bytes),
    ("builtins", "object"): lambda: Guard(None, object),
    ("builtins", "list"): lambda: Guard(None, list),
    ("builtins", "tuple"): lambda: Guard(None, tuple),
    ("builtins", "dict"): lambda: Guard(None, dict),
    ("builtins", "str"): lambda: Guard(None, str),
    ("builtins", "int"): lambda: Guard(None, int),
    ("builtins", "float"): lambda: Guard(None, float),
    ("builtins", "bool"): lambda: Guard(None, bool),
    ("_codecs", "encode"): _guarded(_encode),
    ("builtins", "getattr"): _guarded(_getattr),
    ("copyreg", "_reconstructor"): _guarded(_reconstructor),
    ("collections", "defaultdict"): _guarded(_defaultdict),
    ("collections", "deque"): _guarded(_deque),
    ("collections", "OrderedDict"): _guarded(_ordered_dict),
    ("fractions", "Fraction"): _guarded(_fraction),
    **{
        ("builtins", name): _exception(cls)
        for name, cls in vars(builtins).items()
        if isinstance(cls, type) and issubclass(cls, (SyntaxError, BaseExceptionGroup))
    },
    ("numpy", "ndarray"): _numpy_class("ndarray"),
    ("numpy", "matrix"): _numpy_class("matrix"),
    ("numpy.matrixlib.defmatrix", "matrix"): _numpy_class("matrix"),
    ("numpy", "dtype"): _dtype_guard,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct_guard,
    ("numpy.core.multiarray", "scalar"): _scalar_guard,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer_guard,
    ("numpy.ma.core", "_mareconstruct"): _masked_guard,
    ("numpy.ma.core", "MaskedArray"): _masked_class,
    ("numpy.ma", "MaskedArray"): _masked_class,
}

LARGE = 64 << 10
"""Bytes of a stream from which on the garbage collector is paused while it is read."""


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Pause the collector: it would walk thousands of new lists again and again, and find nothing."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


_FUNCTIONS = (type(_check), type(len))  # written in Python, built in


_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg", "exceptions": "builtins"}
_PYTHON_2_NAMES = {"xrange": "range", "unicode": "str", "long": "int"}


def _canonical(module: str, name: str) -> tuple[str, str]:
    """Today's name of a global: Python 3 renamed modules, NumPy 2 moved numpy.core to numpy._core."""
    if module.startswith("ase.constraints."):
        return "ase.constraints", name
    if module.startswith("numpy._core"):
        return "numpy.core" + module[11:], name
    if module == "pathlib._local":  # Python 3.13
        return "pathlib", name
    if module in _PYTHON_2:
        return _PYTHON_2[module], _PYTHON_2_NAMES.get(name, name)
    return module, name


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
        if isinstance(allow, str) and allow != ANYTHING:
            raise TypeError(f'allow={allow!r}: give a list, allow=["{allow}"], or "*" for everything')
        self.anything = allow == ANYTHING
        self.allow = ANYTHING if self.anything else tuple(allow)
        self._found: dict[tuple[str, str], object] = {}
        self._writable: dict[type, bool] = {}

    def dumps(self, value: object, protocol: int = PROTOCOL) -> bytes:
        """Pickle stream of a value.

        Raises
        ------
        EncodeError, ForbiddenGlobalError
        """
        try:
            if self.anything:
                return pickle.dumps(value, protocol)
            buffer = io.BytesIO()
            _Writer(buffer, self, protocol).dump(value)
            return buffer.getvalue()
        except CodecError:
            raise
        except (pickle.PicklingError, TypeError, AttributeError, RecursionError, MemoryError) as err:
            raise EncodeError(type(value).__qualname__, f"{type(err).__name__}: {err}") from err

    def loads(self, key: str, stream: bytes) -> object:
        """Value of a pickle stream; `key` is for the error.

        Raises
        ------
        ForbiddenGlobalError, CorruptEntryError
        """
        if self.anything:
            return pickle.loads(stream)
        try:
            if len(stream) < LARGE:
                return self.unpickle(io.BytesIO(stream))
            with no_garbage_collection():
                return self.unpickle(io.BytesIO(stream))
        except (CodecError, ImportError):
            raise
        except Exception as err:
            raise CorruptEntryError(key, f"its pickle fails with {type(err).__name__}: {err}") from err

    def unpickle(self, file: "io.BytesIO | io.BufferedReader", encoding: str = "ASCII") -> object:
        """Value of the pickle in `file`; errors as they come."""
        start = file.tell()
        reader = _Reader(file, self, encoding)
        try:
            value = reader.load()
            dtypes = reader.dtypes
            del reader  # and with it the memo
            if all(dtype() is None for dtype in dtypes):
                return value
        except _NeedsCare:
            pass
        file.seek(start)
        return _CarefulReader(file, self, encoding).load()

    def find(self, module: str, name: str) -> object:
        """The global that a stream names, or its guard.

        Raises
        ------
        ForbiddenGlobalError
        """
        canonical = _canonical(module, name)
        try:
            return self._found[canonical]
        except KeyError:
            pass
        if self.anything:
            found = _resolve(*canonical)
        elif canonical in GUARDS:
            found = GUARDS[canonical]()
        elif canonical[1] in CLASSES.get(canonical[0], ()):
            found = _resolve(*canonical)
            if isinstance(found, type) and found.__flags__ & _HEAP_TYPE and not found.__flags__ & _IMMUTABLE_TYPE:
                found = _stand_in(found)
        elif self._added(module, name):
            found = _resolve(module, name)
            if not self._defined_inside(found):
                raise ForbiddenGlobalError(module, name)
        else:
            raise ForbiddenGlobalError(module, name)
        self._found[canonical] = found
        return found

    def admits(self, module: str, name: str) -> bool:
        """Whether a stream may name this global."""
        canonical = _canonical(module, name)
        known = canonical in GUARDS or name in CLASSES.get(canonical[0], ())
        return known or self._added(module, name)

    def _added(self, module: str, name: str) -> bool:
        path = f"{module}.{name}"
        return any(path == entry or path.startswith(entry + ".") for entry in self.allow)

    def _defined_inside(self, found: object) -> bool:
        home = getattr(found, "__module__", None)
        return callable(found) and isinstance(home, str) and self._added(home, getattr(found, "__qualname__", ""))


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


class _Reader(pickle.Unpickler):
    """Unpickler under a rule; of numpy it reads plain numbers only."""

    def __init__(self, file: "io.BytesIO | io.BufferedReader", rule: Rule, encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self._rule = rule
        self.dtypes: list[weakref.ref[_PlainDtype]] = []

    def find_class(self, module: str, name: str) -> object:
        found = self._rule.find(module, name)
        if isinstance(found, _ArrayGuard):
            raise _NeedsCare
        if isinstance(found, _DtypeGuard):
            return Guard(functools.partial(_plain_dtype, found, self.dtypes))
        return found


def _plain_dtype(guard: _DtypeGuard, made: "list[weakref.ref[_PlainDtype]]", *arguments: object) -> _PlainDtype:
    dtype: Any = guard(*arguments)
    if dtype.hasobject or dtype.kind == "V":
        raise _NeedsCare
    plain = _PlainDtype(dtype)
    made.append(weakref.ref(plain))  # one that lives on after the load stands in the value
    return plain


class _CarefulReader(pickle._Unpickler):
    """Unpickler under a rule, in Python: it sees what numpy is handed. Arrays cost about twice the time."""

    def __init__(self, file: "io.BytesIO | io.BufferedReader", rule: Rule, encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self._rule = rule

    def find_class(self, module: str, name: str) -> object:
        return self._rule.find(module, name)

    def load_build(self) -> None:
        from numpy import dtype, ndarray

        stack: list[Any] = self.stack  # type: ignore[attr-defined]
        state, made = stack.pop(), stack[-1]
        if isinstance(made, ndarray):
            made.__setstate__(_checked_state(made, state))
        elif isinstance(made, dtype):
            # A state of numpy's own making, not that of the stream, which numpy would believe.
            honest = _dtype_from(made, state)
            made.__setstate__(honest.__reduce__()[2])  # type: ignore[attr-defined]
            _check(made == honest and (made.itemsize, made.flags) == (honest.itemsize, honest.flags), "dtype")
        else:
            stack.append(state)
            super().load_build()  # type: ignore[misc]

    def load_newobj(self) -> None:
        _check(isinstance(self.stack[-2], type), "NEWOBJ")  # type: ignore[attr-defined]
        super().load_newobj()  # type: ignore[misc]

    def load_newobj_ex(self) -> None:
        _check(isinstance(self.stack[-3], type), "NEWOBJ_EX")  # type: ignore[attr-defined]
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
    }


_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class made by a class statement, or by a newer C module
_IMMUTABLE_TYPE = 1 << 8  # Py_TPFLAGS_IMMUTABLETYPE


class _Writer(pickle.Pickler):
    """Pickler that refuses what the rule could not read back."""

    def __init__(self, buffer: io.BytesIO, rule: Rule, protocol: int) -> None:
        super().__init__(buffer, protocol)
        self._rule = rule
        self._protocol = protocol
        # Before protocol 4 these are built by a call, and reducer_override is not asked about them.
        self._builders: set[type] = {set, frozenset, bytearray, bytes} if protocol < 4 else {bytearray}

    def reducer_override(self, value: object) -> Any:
        # Called for all but the simplest builtin types: first for an instance, then for what builds it.
        cls = type(value)
        if issubclass(cls, type) and not _is_dtype(cls):
            self._check_builder(value)  # type: ignore[arg-type]
        elif cls in _FUNCTIONS:
            self._check_function(value)
        elif cls is MethodType:
            if value.__func__.__name__ != ODD_METHOD:  # type: ignore[attr-defined]
                self._check_function(value)
        else:
            self._check_instance(cls)
            self._builders.add(cls)
            if cls is collections.defaultdict and isinstance(value.default_factory, type):  # type: ignore[attr-defined]
                self._builders.add(value.default_factory)  # type: ignore[attr-defined]
        return NotImplemented

    def _check_builder(self, cls: type) -> None:
        module, name = cls.__module__, cls.__qualname__
        if not self._rule.admits(module, name):
            raise ForbiddenGlobalError(module, name, "write")
        builds = cls in self._builders
        if not builds and (cls is not object or self._protocol < 2):  # old protocols name the base as well
            builds = any(issubclass(made, cls) for made in self._builders)
        if not builds and not self._rule._added(module, name):
            raise EncodeError("type", f"{module}.{name} is a class, and values are data; store its name instead")

    def _check_function(self, function: object) -> None:
        module, name = getattr(function, "__module__", None) or "", function.__qualname__  # type: ignore[attr-defined]
        if not self._rule.admits(module, name):
            raise ForbiddenGlobalError(module, name, "write")

    def _check_instance(self, cls: type) -> None:
        writable = self._rule._writable.get(cls)
        if writable is None:
            scalar = "numpy" in sys.modules and issubclass(cls, sys.modules["numpy"].generic)
            writable = scalar or _is_dtype(cls) or self._rule.admits(cls.__module__, cls.__qualname__)
            writable = writable or cls in (type(Ellipsis), type(NotImplemented), pickle.PickleBuffer)
            self._rule._writable[cls] = writable
        if not writable:
            raise ForbiddenGlobalError(cls.__module__, cls.__qualname__, "write")


def _is_dtype(cls: type) -> bool:
    return cls.__module__ == "numpy.dtypes" or (cls.__qualname__ == "dtype" and cls.__module__ == "numpy")
