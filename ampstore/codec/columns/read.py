"""Stream -> value; the stream may be anybody's."""

import math
import struct
import sys
from array import array
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from ampstore.codec.columns.layout import (
    DEEPEST,
    DTYPES,
    FEWEST_FIELDS,
    FEWEST_OTHERS,
    HEADER,
    INTEGERS,
    MOST_AXES,
    MOST_FIELDS,
    MOST_ROWS,
    MOST_TYPES,
    PACKED,
    WIDEST_ROW,
    WIDTH,
    Items,
    unplanes,
)

if TYPE_CHECKING:
    import numpy.typing


def decode(stream: bytes) -> object:
    """Value of a stream, a fresh object at every call.

    Raises
    ------
    ValueError
        If the bytes are not a stream that `encode` could have made.
    """
    if stream[: len(HEADER)] != HEADER:
        raise ValueError("no columns of version 1")
    reader = _Reader(stream)
    try:
        (value,) = reader.column(1, DEEPEST)
    except (IndexError, TypeError, OverflowError, MemoryError) as err:
        raise ValueError(f"columns: {err}") from err
    if reader.position != len(stream):
        raise ValueError(f"{len(stream) - reader.position} bytes after the end of the columns")
    return value


class _Reader:
    """Reads columns from a stream in which nothing can be trusted."""

    def __init__(self, stream: bytes) -> None:
        self.stream = stream
        self.position = len(HEADER)

    def take(self, size: int) -> bytes:
        start, self.position = self.position, self.position + size
        if size < 0 or self.position > len(self.stream):
            raise ValueError(f"{size} bytes wanted at {start} of {len(self.stream)}")
        return self.stream[start : self.position]

    def byte(self) -> int:
        self.position += 1
        return self.stream[self.position - 1]

    def number(self, what: str, least: int, most: int) -> int:
        number = self.byte()
        if not least <= number <= most:
            raise ValueError(f"{number} {what} before {self.position}, {least} to {most} were possible")
        return number

    def column(self, size: int, depth: int) -> Items:
        """The items of one column."""
        if not size:
            return []
        # Every item takes a byte at least: no need to start on more.
        if depth < 0 or size > len(self.stream) - self.position:
            raise ValueError(f"column of {size} items at {self.position} of {len(self.stream)}, {depth} levels left")
        read = _READERS.get(self.byte())
        if read is None:
            raise ValueError(f"unknown column before {self.position}")
        return read(self, size, depth - 1)

    def mixed(self, size: int, depth: int) -> Items:
        types = self.number("types", 2, MOST_TYPES)
        selector = self.take(size)
        sizes = [selector.count(index) for index in range(types)]
        if not all(sizes) or sum(sizes) != size:
            raise ValueError(f"mixed column before {self.position} names a type that it does not have")
        sources = [iter(self.column(part, depth)) for part in sizes]
        return list(map(next, map(sources.__getitem__, selector)))

    def lengths(self, size: int) -> tuple[list[int], int]:
        """Lengths of the items of a column, and their sum."""
        lengths = list(self.integers(size))
        if min(lengths) < 0 or (total := sum(lengths)) > len(self.stream) - self.position:
            raise ValueError(f"lengths before {self.position} of {len(self.stream)} reach beyond the end")
        return lengths, total

    def lists(self, size: int, depth: int) -> Items:
        lengths, total = self.lengths(size)
        alike = total and min(lengths) == max(lengths)
        if alike and self.stream[self.position : self.position + 1] == b"F":
            self.position += 1
            return self.doubles(total).cast("d", (size, lengths[0])).tolist()
        return _cut(self.column(total, depth), lengths)

    def records(self, size: int, depth: int) -> Items:
        fields = self.number("fields", FEWEST_FIELDS, MOST_FIELDS)
        return list(zip(*[self.column(size, depth) for _ in range(fields)], strict=True))

    def tuples(self, size: int, depth: int) -> Items:
        lengths, total = self.lengths(size)
        return list(map(tuple, _cut(self.column(total, depth), lengths)))

    def dicts(self, size: int, depth: int) -> Items:
        lengths, total = self.lengths(size)
        keys, values = self.column(total, depth), self.column(total, depth)
        pairs = zip(_cut(keys, lengths), _cut(values, lengths), strict=True)
        dicts = [dict(zip(*pair, strict=True)) for pair in pairs]
        if list(map(len, dicts)) != lengths:
            raise ValueError(f"the same key twice in a dict before {self.position}")
        return dicts

    def repeats(self, size: int, depth: int) -> Items:
        (count,) = struct.unpack("<I", self.take(4))
        indices = self.integers(size)
        if min(indices) < 0 or max(indices) >= count:
            raise ValueError(f"index beyond {count} items before {self.position}")
        table = self.column(count, depth)
        if not all(issubclass(cls, Hashable) and cls is not tuple for cls in set(map(type, table))):
            raise ValueError(f"a container is repeated before {self.position}")
        return list(map(table.__getitem__, indices))

    def strings(self, size: int, _: int) -> Items:
        (width,) = struct.unpack("<I", self.take(4))
        lengths, total = self.lengths(size)
        text = self.take(width).decode("utf-8", "surrogatepass")
        if len(text) != total:
            raise ValueError(f"{len(text)} characters before {self.position}, {total} were written")
        return _cut(text, lengths)

    def numpy_strings(self, size: int, _: int) -> Items:
        import numpy as np

        return list(map(np.str_, self.strings(size, 0)))

    def booleans(self, size: int, _: int) -> Items:
        data = self.take(size)
        if max(data) > 1:
            raise ValueError(f"a bool is neither 0 nor 1 before {self.position}")
        return list(map(bool, data))

    def ints(self, size: int, _: int) -> Items:
        return list(self.integers(size))

    def numpy_ints(self, size: int, _: int) -> Items:
        import numpy as np

        return list(np.array(self.ints(size, 0), np.int64))

    def floats(self, size: int, _: int) -> Items:
        return self.doubles(size).cast("d").tolist()

    def numpy_floats(self, size: int, _: int) -> Items:
        import numpy as np

        return list(np.frombuffer(self.block(size, 8), "<f8"))

    def integers(self, size: int) -> "bytes | array[int]":
        code = self.code(INTEGERS)
        if code == "B":
            return self.take(size)
        numbers = array(code)
        width = numbers.itemsize
        numbers.frombytes(unplanes(self.take(size * width), width))
        if sys.byteorder == "big":
            numbers.byteswap()
        return numbers

    def code(self, known: str) -> str:
        code = chr(self.byte())
        if code not in known:
            raise ValueError(f"unknown numbers {code!r} before {self.position}")
        return code

    def doubles(self, size: int) -> "memoryview[int]":
        """Bytes of floats in the order of this machine."""
        block = self.block(size, 8)
        if sys.byteorder == "little":
            return memoryview(block).cast("B")
        swapped = array("d", bytes(block))
        swapped.byteswap()
        return memoryview(swapped).cast("B")

    def block(self, size: int, width: int) -> "bytes | bytearray | memoryview[int]":
        """Little-endian floats."""
        layout = self.take(1)
        if layout == b"P":
            return unplanes(self.take(size * width), width)
        if layout != b"Z":
            raise ValueError(f"unknown layout {layout!r} of floats before {self.position}")
        import numpy as np

        bits = np.frombuffer(self.take((size + 7) // 8), "B")
        found = np.unpackbits(bits, bitorder="little").view("?")
        others = int(np.count_nonzero(found))
        if found[size:].any() or others * FEWEST_OTHERS < size:
            raise ValueError(f"bits of {size} floats before {self.position}: {others} are set")
        numbers: numpy.typing.NDArray[Any] = np.zeros(size, f"<u{width}")
        numbers[found[:size]] = np.frombuffer(unplanes(self.take(others * width), width), f"<u{width}")
        return numbers.data

    def arrays(self, size: int, _: int) -> Items:
        import numpy as np

        code, axes = self.code(DTYPES), self.number("axes", 0, MOST_AXES)
        dtype = np.dtype("<" + code)
        lengths = [list(self.integers(size)) for _ in range(axes)]
        if min(map(min, lengths), default=0) < 0:
            raise ValueError(f"array of negative length before {self.position}")
        if axes and all(min(axis) == max(axis) > 0 for axis in lengths[1:]):
            trail = [axis[0] for axis in lengths[1:]]
            flat = self.numbers(sum(lengths[0]) * math.prod(trail), code).reshape(-1, *trail)
            ends = accumulate(lengths[0], initial=0)
            return [flat[start:end].astype(dtype) for start, end in pairwise(ends)]
        shapes = list(zip(*lengths, strict=True)) or [()] * size
        sizes = list(map(math.prod, shapes))
        parts = _cut(self.numbers(sum(sizes), code), sizes)
        return [part.reshape(shape).astype(dtype) for part, shape in zip(parts, shapes, strict=True)]

    def numbers(self, size: int, code: str) -> "numpy.typing.NDArray[Any]":
        """Numbers of arrays in the type in which they were stored, maybe read-only."""
        import numpy as np

        if not size:
            return np.zeros(0, "<" + code)
        if code == "?":
            data = self.take(size)
            if max(data) > 1:
                raise ValueError(f"a bool is neither 0 nor 1 before {self.position}")
            return np.frombuffer(data, "?")
        if code in INTEGERS:
            stored = self.code(INTEGERS + PACKED)
            if stored == PACKED:
                return self.packed(size, code)
            if not np.can_cast("<" + stored, "<" + code):
                raise ValueError(f"numbers {stored!r} for an array of {code!r} before {self.position}")
            return np.frombuffer(unplanes(self.take(size * WIDTH[stored]), WIDTH[stored]), "<" + stored)
        halves = 2 if code in "FD" else 1
        return np.frombuffer(self.block(size * halves, WIDTH[code] // halves), "<" + code)

    def packed(self, size: int, code: str) -> "numpy.typing.NDArray[Any]":
        """Numbers of rows that a byte each stands for."""
        import numpy as np

        width = self.number("numbers in a row", 2, WIDEST_ROW)
        least = struct.unpack(f"{width}b", self.take(width))
        table = _rows(least, self.take(width), code)
        rows = np.frombuffer(self.take(size // width), np.uint8)
        if size % width or int(rows.max()) >= len(table):
            raise ValueError(f"rows before {self.position} are none of {len(table)} of {width} numbers")
        return table.take(rows, 0).reshape(-1)


@lru_cache(maxsize=32)
def _rows(least: tuple[int, ...], spans: bytes, code: str) -> "numpy.typing.NDArray[Any]":
    """All rows of numbers from `least` up to `spans` more, the last number running fastest."""
    import numpy as np

    counts = [span + 1 for span in spans]
    if math.prod(counts) > MOST_ROWS:
        raise ValueError(f"{math.prod(counts)} rows, a byte tells {MOST_ROWS} apart")
    if max(map(sum, zip(least, spans, strict=True))) > 127 or (code.isupper() and min(least) < 0):
        raise ValueError(f"rows from {least}, up to {list(spans)} more, are none of {code!r}")
    return (np.indices(counts).reshape(len(counts), -1).T + least).astype("<" + code)


def _cut(items: Any, lengths: Sequence[int]) -> Items:
    """Slices of the given lengths, one after the other."""
    if len(lengths) == 1:
        return [items]
    return [items[start:end] for start, end in pairwise(accumulate(lengths, initial=0))]


_READERS: dict[int, Callable[[_Reader, int, int], Items]] = {
    ord("F"): _Reader.floats,
    ord("I"): _Reader.ints,
    ord("S"): _Reader.strings,
    ord("B"): _Reader.booleans,
    ord("L"): _Reader.lists,
    ord("T"): _Reader.records,
    ord("V"): _Reader.tuples,
    ord("D"): _Reader.dicts,
    ord("M"): _Reader.mixed,
    ord("R"): _Reader.repeats,
    ord("A"): _Reader.arrays,
    ord("f"): _Reader.numpy_floats,
    ord("i"): _Reader.numpy_ints,
    ord("s"): _Reader.numpy_strings,
}
