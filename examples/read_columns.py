"""Typed columns, read from docs/columns.md alone: no line of ampstore, and no check of what it reads.

    python read_store.py results.db KEY

reads an entry with it. Slow and short on purpose; it shows that the bytes are no secret. `loads` takes the
stream of "columns1", `loads_vectors` that of "vectors1".
"""

import struct
from itertools import accumulate, pairwise
from math import prod

import numpy as np

WIDTHS = dict(zip("?bBhHiIqQefdFD", (1, 1, 1, 2, 2, 4, 4, 8, 8, 2, 4, 8, 8, 16), strict=True))


def loads(stream):
    """Value of a columns stream."""
    reader = _Reader(stream)
    if reader.take(2) != b"C1":
        raise ValueError("no columns of version 1")
    (value,) = reader.column(1)
    if reader.at != len(stream):
        raise ValueError("bytes after the end")
    return value


def loads_vectors(stream):
    """Value of a vectors stream."""
    text, width = struct.unpack_from("<II", stream, 2)
    labels = stream[10 : 10 + text].decode().split("\n")[:-1]
    rows = struct.iter_unpack(f"<{width}d", stream[10 + text :])
    return [(label, list(row)) for label, row in zip(labels, rows, strict=True)]


def cut(items, lengths):
    """Slices of these lengths, one after the other."""
    return [items[start:end] for start, end in pairwise(accumulate(lengths, initial=0))]


class _Reader:
    def __init__(self, stream):
        self.stream, self.at = stream, 0

    def take(self, size):
        self.at += size
        return self.stream[self.at - size : self.at]

    def planes(self, count, width):
        data = self.take(count * width)
        return b"".join(bytes(data[plane * count + i] for plane in reversed(range(width))) for i in range(count))

    def integers(self, count):
        code = chr(self.take(1)[0])
        return list(struct.unpack(f"<{count}{code}", self.planes(count, WIDTHS[code])))

    def floats(self, count, width):
        if self.take(1) == b"P":
            return self.planes(count, width)
        bits = self.take((count + 7) // 8)
        found = [bits[i // 8] >> i % 8 & 1 for i in range(count)]
        others = iter(struct.iter_unpack(f"{width}s", self.planes(sum(found), width)))
        return b"".join(next(others)[0] if bit else bytes(width) for bit in found)

    def column(self, count):  # noqa: C901, PLR0911 - one branch for each line of the table
        if count == 0:
            return []
        tag = self.take(1).decode()
        if tag in "Ff":
            numbers = [number for (number,) in struct.iter_unpack("<d", self.floats(count, 8))]
            return numbers if tag == "F" else list(map(np.float64, numbers))
        if tag in "Ii":
            return list(map(int if tag == "I" else np.int64, self.integers(count)))
        if tag == "B":
            return [byte == 1 for byte in self.take(count)]
        if tag in "Ss":
            size, lengths = int.from_bytes(self.take(4), "little"), self.integers(count)
            text = self.take(size).decode("utf-8", "surrogatepass")
            return list(map(str if tag == "S" else np.str_, cut(text, lengths)))
        if tag == "R":
            kinds, indices = int.from_bytes(self.take(4), "little"), self.integers(count)
            table = self.column(kinds)
            return [table[index] for index in indices]
        if tag == "M":
            kinds, selector = self.take(1)[0], self.take(count)
            sources = [iter(self.column(selector.count(kind))) for kind in range(kinds)]
            return [next(sources[kind]) for kind in selector]
        if tag == "T":
            return list(zip(*[self.column(count) for _ in range(self.take(1)[0])], strict=True))
        if tag == "A":
            return self.arrays(count)
        lengths = self.integers(count)
        items = cut(self.column(sum(lengths)), lengths)
        if tag == "D":
            values = cut(self.column(sum(lengths)), lengths)
            return [dict(zip(*pair, strict=True)) for pair in zip(items, values, strict=True)]
        return list(map(list if tag == "L" else tuple, items))

    def arrays(self, count):
        code, axes = chr(self.take(1)[0]), self.take(1)[0]
        shapes = list(zip(*[self.integers(count) for _ in range(axes)], strict=True)) or [()] * count
        sizes = list(map(prod, shapes))
        flat = self.numbers(sum(sizes), code)
        return [part.reshape(shape).copy() for part, shape in zip(cut(flat, sizes), shapes, strict=True)]

    def numbers(self, count, code):
        if not count:
            return np.zeros(0, "<" + code)
        if code in "bBhHiIqQ":
            if self.stream[self.at : self.at + 1] == b"K":
                return np.array(self.rows(count), "<" + code)
            return np.array(self.integers(count), "<" + code)
        if code == "?":
            return np.frombuffer(self.take(count), "?")
        parts = 2 if code in "FD" else 1
        return np.frombuffer(self.floats(count * parts, WIDTHS[code] // parts), "<" + code)

    def rows(self, count):
        width = self.take(2)[1]
        least, spans = struct.unpack(f"{width}b", self.take(width)), self.take(width)
        numbers = []
        for rest in self.take(count // width):
            left, row = rest, []
            for low, span in zip(reversed(least), reversed(spans), strict=True):
                left, digit = divmod(left, span + 1)
                row.append(low + digit)
            numbers += reversed(row)
        return numbers
