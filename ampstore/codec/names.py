"""The globals that values may name, one by one, and the builders that stand for them.

`CLASSES` are handed out as they are, or behind a `StandIn` if they are written in Python. `GUARDS` are builders
with checks of their arguments: ten bytes could otherwise ask for ten gigabytes.
"""

import builtins
import collections
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ampstore.codec import arrays
from ampstore.codec.guard import Guard, StandIn, check, class_of

if TYPE_CHECKING:
    from fractions import Fraction

_EXCEPTIONS = [name for name, cls in vars(builtins).items() if isinstance(cls, type) and issubclass(cls, BaseException)]

# Constants, and classes: those written in C may be called with anything and cannot be changed by BUILD,
# those written in Python become stand-ins.
CLASSES: dict[str, list[str]] = {
    "builtins": ["complex", "range", "Ellipsis", "NotImplemented", *_EXCEPTIONS],
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


_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg", "exceptions": "builtins"}
_PYTHON_2_NAMES = {"xrange": "range", "unicode": "str", "long": "int"}


def canonical(module: str, name: str) -> tuple[str, str]:
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


def stand_in(real: type) -> StandIn:
    """Stand-in for a class that is written in Python."""

    def new(_: type, *arguments: object) -> object:
        return real.__new__(real, *arguments)

    build = staticmethod(_CALLS[real.__module__]) if real.__module__ in _CALLS else None
    return StandIn(real.__name__, (), {"__slots__": (), "__new__": new, "real": real, "build": build})


def _path(cls: type, *parts: object) -> object:
    check(all(type(part) is str for part in parts), cls.__name__)
    return cls(*parts)


def _tally(cls: type, items: object = ()) -> object:
    check(type(items) in (list, tuple, dict), cls.__name__)
    return cls(items)


_CALLS: dict[str, Callable[..., object]] = {"pathlib": _path, "pathlib._local": _path, "collections": _tally}
"""Modules with classes whose instances are built by a call; the others are made empty and then filled."""


def _set(items: object = ()) -> set[object]:
    check(type(items) in (list, tuple), "set")
    return set(items)  # type: ignore[call-overload, no-any-return]


def _frozenset(items: object = ()) -> frozenset[object]:
    check(type(items) in (list, tuple), "frozenset")
    return frozenset(items)  # type: ignore[call-overload, no-any-return]


def _bytearray(data: Any = b"", encoding: str = "latin-1") -> bytearray:
    check(type(data) in (bytes, str) and encoding in ("latin-1", "latin1"), "bytearray")
    return bytearray(data.encode("latin-1") if isinstance(data, str) else data)


def _bytes(*arguments: object) -> bytes:
    check(not arguments, "bytes")
    return b""


def _encode(text: object, encoding: str) -> bytes:
    check(type(text) is str and encoding in ("latin-1", "latin1"), "_codecs.encode")
    return text.encode("latin-1")  # type: ignore[attr-defined, no-any-return]


def _reconstructor(named: object, base: object, state: Any) -> object:
    """What `copyreg._reconstructor` does: protocols 0 and 1 build instances with it."""
    cls: Any = class_of(named)
    builtin: Any = class_of(base)
    check(isinstance(named, type) and builtin in (object, list, dict, str, int, float, tuple), "_reconstructor")
    if builtin is object:
        return object.__new__(cls)
    check(type(state) is builtin, "_reconstructor")
    made = builtin.__new__(cls, state)
    if builtin in (list, dict):
        builtin.__init__(made, state)
    return made


def _defaultdict(factory: object = None, *arguments: object) -> "collections.defaultdict[object, object]":
    check(not arguments, "defaultdict")
    return collections.defaultdict(None if factory is None else class_of(factory))


def _deque(items: object = (), maxlen: int | None = None) -> "collections.deque[object]":
    check(type(items) in (list, tuple), "deque")
    return collections.deque(items, maxlen)  # type: ignore[call-overload, no-any-return]


def _ordered_dict(items: object = ()) -> "collections.OrderedDict[object, object]":
    check(type(items) in (list, tuple, dict), "OrderedDict")
    return collections.OrderedDict(items)  # type: ignore[call-overload, no-any-return]


def _fraction(numerator: Any, denominator: Any = 1) -> "Fraction":
    from fractions import Fraction  # with decimal, 3 ms of every start

    # Fraction("1e999999999") would compute that power of ten.
    if isinstance(numerator, str):
        check(re.fullmatch(r"-?\d{1,4000}(/\d{1,4000})?", numerator) is not None and denominator == 1, "Fraction")
        return Fraction(numerator)
    check(type(numerator) is int and type(denominator) is int, "Fraction")
    return Fraction(numerator, denominator)


ODD_METHOD = "_deprecated_get_spin_polarized"
"""Calculators of newer ASE keep this method of theirs as an attribute, which pickle writes as `getattr`."""


def _getattr(owner: object, name: str) -> object:
    known = type(owner).__name__ in CLASSES.get(type(owner).__module__, ())
    check(known and type(owner).__module__ == "ase.calculators.singlepoint" and name == ODD_METHOD, "getattr")
    return getattr(owner, name)


def plain_slice(made: slice) -> bool:
    """Whether a slice holds no slices: these would be hashed and deleted by C code that calls itself."""
    return not any(type(part) in (slice, tuple, list) for part in (made.start, made.stop, made.step))


def _slice(*arguments: Any) -> slice:
    made = slice(*arguments)
    check(plain_slice(made), "slice")
    return made


def _exception(cls: type) -> Callable[[], Guard]:
    """Guard of an exception that turns its second argument into a tuple, however long that gets."""

    def build(*arguments: object) -> object:
        check(len(arguments) < 2 or type(arguments[1]) in (list, tuple, str, type(None)), cls.__name__)
        return cls(*arguments)

    return lambda: Guard(build, cls)


def _guarded(build: Callable[..., object]) -> Callable[[], Guard]:
    return lambda: Guard(build)


GUARDS: dict[tuple[str, str], Callable[[], Guard]] = {
    ("builtins", "set"): lambda: Guard(_set, set),
    ("builtins", "frozenset"): lambda: Guard(_frozenset, frozenset),
    ("builtins", "bytearray"): lambda: Guard(_bytearray, bytearray),
    ("builtins", "bytes"): lambda: Guard(_bytes, bytes),
    ("builtins", "slice"): lambda: Guard(_slice, slice),
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
    ("numpy", "ndarray"): arrays.numpy_class("ndarray"),
    ("numpy", "matrix"): arrays.numpy_class("matrix"),
    ("numpy.matrixlib.defmatrix", "matrix"): arrays.numpy_class("matrix"),
    ("numpy", "dtype"): arrays.dtype_guard,
    ("numpy.core.multiarray", "_reconstruct"): arrays.reconstruct_guard,
    ("numpy.core.multiarray", "scalar"): arrays.scalar_guard,
    ("numpy.core.numeric", "_frombuffer"): arrays.frombuffer_guard,
    ("numpy.ma.core", "_mareconstruct"): arrays.masked_guard,
    ("numpy.ma.core", "MaskedArray"): arrays.masked_class,
    ("numpy.ma", "MaskedArray"): arrays.masked_class,
}
