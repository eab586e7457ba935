"""One line that tells a person what a value is, from its type, length and first item only.

    [("Cu", [0.1, ...]), ...]            list of 37 (symbol, float[20])
    [(array, array), ...]                list of 20 (int64[66], int64[66, 3])
    {(0, "Cu", 1, "Pt", 2): [...], ...}  dict of 960 (int, symbol, int, symbol, int): float[20]

It is written with every entry, so it must cost about a microsecond and never fail.
"""

import re
from collections.abc import Collection

_SYMBOL = re.compile("[A-Z][a-z]?")
LONGEST = 120
_SCALARS: dict[type, str] = {cls: cls.__name__ for cls in (bool, int, float, complex)}
_NAMES: dict[type, str] = {**_SCALARS, type(None): "None"}


def summarise(value: object) -> str:
    """Short description of a value, at most 120 characters."""
    try:
        line = _line(value, 3)
    except Exception:  # noqa: BLE001 - other people's attributes may raise anything
        line = type(value).__name__
    return line if len(line) <= LONGEST else line[: LONGEST - 3] + "..."


def _line(value: object, depth: int) -> str:
    cls = type(value)
    if cls is list:
        return _list(value, depth)  # type: ignore[arg-type]
    if cls in _NAMES:
        return _NAMES[cls]
    if cls is str:
        return _text(value)  # type: ignore[arg-type]
    if cls is bytes or cls is bytearray:
        return f"{cls.__name__} of {len(value)}"  # type: ignore[arg-type]
    if cls is tuple or cls is set or cls is frozenset:
        return _items(cls.__name__, value, depth)  # type: ignore[arg-type]
    return _mapping(cls.__name__, value, depth) if isinstance(value, dict) else _array(value) or cls.__name__


def _text(value: str) -> str:
    if len(value) < 3 and _SYMBOL.fullmatch(value):
        return "symbol"
    return f"str of {len(value)}"


def _list(value: list[object], depth: int) -> str:
    if not value or not depth:
        return _items("list", value, depth)
    first = value[0]
    if scalar := _SCALARS.get(type(first)):
        return f"{scalar}[{len(value)}]"
    return f"list of {len(value)} {_inner(first, depth - 1)}"


def _items(name: str, value: Collection[object], depth: int) -> str:
    size = len(value)
    if not size:
        return f"empty {name}"
    if not depth:
        return f"{name} of {size}"
    if name == "tuple" and size <= 5:
        return f"({', '.join([_inner(item, depth - 1) for item in value])})"
    return f"{name} of {size} {_inner(next(iter(value)), depth - 1)}"


def _mapping(name: str, value: "dict[object, object]", depth: int) -> str:
    if not value:
        return f"empty {name}"
    if not depth:
        return f"{name} of {len(value)}"
    key, item = next(iter(value.items()))
    return f"{name} of {len(value)} {_inner(key, depth - 1)}: {_inner(item, depth - 1)}"


def _inner(value: object, depth: int) -> str:
    if type(value) is str:
        return "symbol" if len(value) < 3 and _SYMBOL.fullmatch(value) else "str"
    return _line(value, depth)


def _array(value: object) -> str | None:
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    if dtype is None or type(shape) is not tuple:
        return None
    name = getattr(dtype, "name", type(value).__name__)
    return f"{name}[{', '.join(map(str, shape))}]" if shape else str(name)
