"""Value -> stream: one pass per level of the value, all loops over items in C."""

import marshal
import math
import struct
import sys
from array import array
from collections.abc import Callable
from itertools import chain, compress
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from ampstore.codec.columns.layout import (
    DEEPEST,
    DTYPES,
    FEWEST_FIELDS,
    FEWEST_OTHERS,
    FEWEST_SCALARS,
    FEWEST_ZEROS,
    HEADER,
    INTEGERS,
    LEVELS_TO_LOOK,
    MOST_AXES,
    MOST_FIELDS,
    MOST_ROWS,
    PACKED,
    WIDEST_ROW,
    WIDTH,
    Items,
    little,
    planes,
    smallest,
)

if TYPE_CHECKING:
    import numpy.typing


class MisfitError(Exception):
    """The value is none for columns."""


def encode(value: object, *, always: bool = False) -> bytes | None:
    """Stream of a value, or None if it does not fit; equal values (types, order, bits) have equal streams.

    Parameters
    ----------
    value : object
        Anything.
    always : bool, default False
        Take what fits even if its pickle would serve as well.
    """
    if not (always or gains(value)):
        return None
    writer = _Writer()
    try:
        writer.column([value], DEEPEST)
    except (MisfitError, OverflowError, struct.error):  # the last two: numbers and lengths too large to say
        return None
    return HEADER + b"".join(writer.parts)


def gains(value: Any) -> bool:
    """Whether columns are worth their trouble, from the first items only.

    A flat list or dict of floats, ints or texts is 5 to 15 % smaller as columns, and slower to write
    or to read than its pickle; so is everything small. A single array of floats gains nothing.
    """
    cls = type(value)
    if cls is list or cls is dict:
        first = next(iter(value.values() if cls is dict else value), None)
        return type(first) not in _FLAT and _scalars(value, LEVELS_TO_LOOK) >= FEWEST_SCALARS
    return cls in _writers() and getattr(value, "nbytes", 0) > 8 * FEWEST_SCALARS and value.dtype.kind in "iu"


def _scalars(value: Any, depth: int) -> int:
    """About how many scalars a value has, if it goes on as it begins; 0 if it begins with something else."""
    cls = type(value)
    is_flat = cls in _FLAT
    if is_flat or depth < 0:
        return int(is_flat)
    if cls is list:
        return len(value) * (1 if type(value[0]) in _FLAT else _scalars(value[0], depth - 1)) if value else 1
    if cls is tuple:
        parts = [_scalars(item, depth - 1) for item in value[:MOST_FIELDS]]
        return sum(parts) if all(parts) else 0
    if cls not in _writers():
        return 0
    if cls is dict:
        key, item = next(iter(value.items()), (0, 0))
        parts = [_scalars(key, depth - 1), _scalars(item, depth - 1)]
        return len(value) * sum(parts) if all(parts) else 0
    # Small arrays are what pickle is worst at: 400 numbers in 16 of them take 240 bytes, not 540, in half the time.
    return 4 * int(value.size) + 30 if cls.__name__ == "ndarray" else 2


_IN_ORDER, _METADATA = attrgetter("flags.c_contiguous"), attrgetter("dtype.metadata")
_FLAT = frozenset((float, int, str, bool))
_REPEATABLE = frozenset(("bool", "int", "int64", "str", "str_"))


class _Writer:
    """Collects the parts of a stream, column by column, outermost first."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.seen: set[int] = set()
        self.containers = 0

    def column(self, items: Items, depth: int, nested: bool = False) -> None:
        """One column; items `nested` in tuples may not be one tuple again and again."""
        if depth < 0:
            raise MisfitError  # or a list that holds itself
        if not items or (type(items[0]) is type(items[-1]) is float and self.floats(items)):
            return
        types = list(dict.fromkeys(map(type, items)))
        if len(types) > 1:
            self.mixed(items, types, depth - 1, nested)
        elif (write := _writers().get(types[0])) is None:
            raise MisfitError
        else:
            write(self, items, depth - 1, nested)

    def floats(self, items: Items) -> bool:
        """One column of floats, if that is what they all are."""
        # marshal writes b"g" and 8 bytes for a float, and nothing else begins with b"g": with one at
        # every ninth byte of 9 bytes per item all are floats.
        try:
            data = marshal.dumps(items, 2)
        except ValueError:
            return False
        if len(data) != 5 + 9 * len(items) or data[5::9] != b"g" * len(items):
            return False
        self.parts.append(b"F")
        self.block(data, 8, start=6, stride=9)
        return True

    def mixed(self, items: Items, types: list[type], depth: int, nested: bool) -> None:
        if not _writers().keys() >= set(types):
            raise MisfitError
        if _REPEATABLE.issuperset(cls.__name__ for cls in types) and self.repeats(items, depth):
            return
        number = {cls: index for index, cls in enumerate(types)}
        selector = bytes(map(number.__getitem__, map(type, items)))
        self.parts += (b"M", bytes((len(types),)), selector)
        for index in range(len(types)):
            chosen = compress(items, selector.translate(_only(index)))
            self.column(list(chosen), depth, nested)

    def repeats(self, items: Items, depth: int) -> bool:
        """Few distinct texts and whole numbers, many times: a column of those, and indices."""
        typed = list(zip(map(type, items), items, strict=True))  # 1 == True == numpy.int64(1)
        table = list(dict.fromkeys(typed))
        if len(table) * 2 > len(items):
            return False
        self.table(table, typed)
        self.column([item for _, item in table], depth)
        return True

    def table(self, table: Items, items: Items) -> None:
        number = {item: index for index, item in enumerate(table)}
        self.parts += (b"R", struct.pack("<I", len(table)))
        self.integers(list(map(number.__getitem__, items)))

    def lists(self, items: Items, depth: int, _: bool) -> None:
        self.distinct(items)
        self.parts.append(b"L")
        self.integers(list(map(len, items)))
        self.column(list(chain.from_iterable(items)), depth)

    def tuples(self, items: Items, depth: int, nested: bool) -> None:
        width = len(items[0])
        if FEWEST_FIELDS <= width <= MOST_FIELDS and len(set(map(len, items))) == 1:
            if nested:
                self.distinct(items)
            self.parts += (b"T", bytes((width,)))
            for field in zip(*items, strict=True):
                self.column(list(field), depth, True)
            return
        self.distinct([item for item in items if item])
        self.parts.append(b"V")
        self.integers(list(map(len, items)))
        self.column(list(chain.from_iterable(items)), depth, True)

    def dicts(self, items: Items, depth: int, _: bool) -> None:
        self.distinct(items)
        self.parts.append(b"D")
        self.integers(list(map(len, items)))
        self.column(list(chain.from_iterable(items)), depth)
        self.column(list(chain.from_iterable(map(dict.values, items))), depth)

    def strings(self, items: Items, *_: object) -> None:
        self.texts(items, b"S")

    def numpy_strings(self, items: Items, *_: object) -> None:
        for text in self.texts(items, b"s"):
            if text.endswith("\0"):  # numpy.str_("a\0") is "a"
                raise MisfitError

    def texts(self, items: Items, tag: bytes) -> list[str]:
        table = list(dict.fromkeys(items))
        if len(table) < len(items):
            self.table(table, items)
        data = "".join(table).encode("utf-8", "surrogatepass")
        self.parts += (tag, struct.pack("<I", len(data)))
        self.integers(list(map(len, table)))
        self.parts.append(data)
        return table

    def booleans(self, items: Items, *_: object) -> None:
        self.parts += (b"B", bytes(items))

    def ints(self, items: Items, *_: object) -> None:
        self.parts.append(b"I")
        self.integers(items)

    def numpy_ints(self, items: Items, *_: object) -> None:
        self.parts.append(b"i")
        self.integers(items)

    def plain_floats(self, items: Items, *_: object) -> None:
        self.parts.append(b"F")
        self.block(little(array("d", items)), 8)

    def numpy_floats(self, items: Items, *_: object) -> None:
        self.parts.append(b"f")
        self.block(little(array("d", items)), 8)

    def integers(self, items: Items) -> None:
        """Whole numbers in the smallest type that holds them all."""
        try:
            self.parts += (b"B", bytes(items))
        except ValueError:
            code = smallest(int(min(items)), int(max(items)))
            numbers = array(code, items)
            self.parts += (code.encode(), planes(little(numbers), numbers.itemsize))

    def block(self, raw: bytes, width: int, start: int = 0, stride: int | None = None) -> None:
        """Little-endian floats: as planes, or exact zeros as bits and the others as planes."""
        stride = stride or width
        # +0.0 has the highest byte 0, few other floats have: most columns can do without NumPy.
        if 0 in raw[start + width - 1 :: stride]:
            import numpy as np

            size = (len(raw) - start - width) // stride + 1
            numbers: numpy.typing.NDArray[Any] = np.ndarray((size,), f"<u{width}", raw, start, (stride,))
            found = numbers != 0
            others = int(np.count_nonzero(found))
            if others * FEWEST_OTHERS >= size and (size - others) * FEWEST_ZEROS >= size:
                bits = np.packbits(found, bitorder="little").tobytes()
                self.parts += (b"Z", bits, planes(numbers[found].tobytes(), width))
                return
        self.parts += (b"P", planes(raw, width, start, stride))

    def arrays(self, items: Items, *_: object) -> None:
        self.distinct(items)
        dtype, axes = items[0].dtype, items[0].ndim
        dtypes = set(map(attrgetter("dtype"), items))
        if axes > MOST_AXES or len(dtypes) > 1 or (code := _CODES.get(dtype.str)) is None:
            raise MisfitError
        if not all(map(_IN_ORDER, items)) or any(map(_METADATA, items)):
            raise MisfitError
        shapes = list(map(attrgetter("shape"), items))
        if len(set(map(len, shapes))) > 1:
            raise MisfitError
        self.parts += (b"A", code.encode(), bytes((axes,)))
        for lengths in zip(*shapes, strict=True):
            self.integers(list(lengths))
        rows = {shape[-1] for shape in shapes} if axes > 1 else {1}
        self.numbers(items, code, rows.pop() if len(rows) == 1 else 1)

    def numbers(self, items: Items, code: str, row: int) -> None:
        """All numbers of all arrays, one after the other; all last axes have the length `row` if it is not 1."""
        import numpy as np

        flat = np.concatenate([item.reshape(-1) for item in items]) if len(items) > 1 else items[0].reshape(-1)
        if not flat.size:
            return
        if code in INTEGERS:
            if 1 < row <= WIDEST_ROW and self.packed(flat.reshape(-1, row)):
                return
            narrow = smallest(int(flat.min()), int(flat.max()))
            if WIDTH[narrow] < WIDTH[code]:
                code, flat = narrow, flat.astype("<" + narrow)
            self.parts += (code.encode(), planes(flat.tobytes(), flat.itemsize))
        elif code == "?":
            if flat.view("B").max() > 1:
                raise MisfitError
            self.parts.append(flat.tobytes())
        else:
            self.block(flat.tobytes(), WIDTH[code] // (2 if code in "FD" else 1))

    def packed(self, rows: "numpy.typing.NDArray[Any]") -> bool:
        """Rows of a few small numbers, such as offsets of cells, as one byte each, if that is what they are."""
        least, most = rows.min(0).tolist(), rows.max(0).tolist()
        if min(least) < -128 or max(most) > 127:
            return False
        counts = [high - low + 1 for low, high in zip(least, most, strict=True)]
        if math.prod(counts) > MOST_ROWS:
            return False
        import numpy as np

        rows = rows.astype(np.int64, copy=False)
        digits = rows[:, 0] - least[0]
        for axis, count in enumerate(counts[1:], 1):
            digits = digits * count + (rows[:, axis] - least[axis])
        self.parts += (PACKED.encode(), bytes((len(counts),)), struct.pack(f"{len(counts)}b", *least))
        self.parts += (bytes(count - 1 for count in counts), digits.astype(np.uint8).tobytes())
        return True

    def distinct(self, items: Items) -> None:
        """Refuse a container that occurred before: a copy of the value would not share it."""
        self.containers += len(items)
        self.seen.update(map(id, items))
        if len(self.seen) != self.containers:
            raise MisfitError


def _only(index: int) -> bytes:
    """Table for `bytes.translate`: 1 for `index`, 0 for all others."""
    return bytes(index) + b"\1" + bytes(255 - index)


_CODES = {
    ("<" if WIDTH[code] > 1 else "|") + name + str(WIDTH[code]): code
    for code, name in zip(DTYPES, "biuiuiuiufffcc", strict=True)
}
"""Codes by `dtype.str`: "<i8" is "q"."""

_Write = Callable[[_Writer, Items, int, bool], None]
_WRITERS: dict[type, _Write] = {
    float: _Writer.plain_floats,
    int: _Writer.ints,
    str: _Writer.strings,
    bool: _Writer.booleans,
    list: _Writer.lists,
    tuple: _Writer.tuples,
    dict: _Writer.dicts,
}
_NUMPY_WRITERS: dict[type, _Write] = {}


def _writers() -> dict[type, _Write]:
    """How to write which type. A value holds NumPy objects only if somebody imported NumPy."""
    if _NUMPY_WRITERS or "numpy" not in sys.modules:
        return _NUMPY_WRITERS or _WRITERS
    import numpy as np

    of_numpy: dict[type, _Write] = {
        np.ndarray: _Writer.arrays,
        np.float64: _Writer.numpy_floats,
        np.int64: _Writer.numpy_ints,
        np.str_: _Writer.numpy_strings,
    }
    _NUMPY_WRITERS.update(_WRITERS | of_numpy)
    return _NUMPY_WRITERS
