"""Small fingerprints as one block of floats: [(label, [float, ...]), ...], all lists of one length.

    b"V1"  length of the labels (4 bytes)  number of floats of each vector (4 bytes)
    labels, UTF-8, each ended by a line feed
    floats, 8 bytes each, vector after vector

All numbers are little-endian. What Amp computes for a cell of 20 atoms is read in 0.6 of the time of its
pickle and is a sixth smaller; larger cells are smaller still as columns (see `ampstore.codec.columns`).
"""

import marshal
import struct
import sys
from array import array
from functools import lru_cache
from typing import Any

from ampstore.codec.kind import summarise

MAGIC = b"V1"
MOST_FLOATS = 1200
MOST_TEXT = 16 << 10
_HEAD = struct.Struct("<2sII")
_END = "\n"


def encode(value: Any) -> bytes | None:
    """Stream of a value, or None if it does not fit; equal values (types, order, bits) have equal streams."""
    width = _width(value)
    if not width or (count := len(value)) * width >= MOST_FLOATS:
        return None
    try:
        labels, vectors = zip(*value, strict=True)
        floats = _floats(vectors, width)
        if (
            floats is None
            or set(map(type, value)) != _TUPLES
            or set(map(type, labels)) != _TEXTS
            or len(set(map(id, vectors))) != count  # a copy would not share the list
        ):
            return None
        head = _head(labels, width)
    except (TypeError, ValueError):  # not pairs, not texts, or half of a surrogate pair
        return None
    return head and head + floats


_TUPLES, _TEXTS = {tuple}, {str}


@lru_cache(maxsize=256)
def _head(labels: tuple[str, ...], width: int) -> bytes | None:
    """All before the floats, None if the labels do not fit; those of one data set come again and again."""
    text = _END.join(labels) + _END
    encoded = text.encode()
    if len(encoded) > MOST_TEXT or text.count(_END) != len(labels):
        return None
    return _HEAD.pack(MAGIC, len(encoded), width) + encoded


def kind(value: Any) -> str:
    """What the value is, for people, as `summarise` says it."""
    return _kind(len(value), value[0][0], len(value[0][1]))


@lru_cache(maxsize=256)
def _kind(count: int, label: str, width: int) -> str:
    return summarise([(label, [0.0] * width)] * count)


def _width(value: object) -> int:
    """Length of the first vector, 0 if the value begins like something else."""
    if type(value) is list and value and type(first := value[0]) is tuple and len(first) == 2:
        label, vector = first
        if type(label) is str and type(vector) is list and vector and type(vector[0]) is float:
            return len(vector)
    return 0


def _floats(vectors: tuple[object, ...], width: int) -> bytes | None:
    """All floats of lists of `width` of them, None if they are anything else."""
    import numpy as np

    # marshal writes "[" and 4 bytes of length for a list, "g" and 8 bytes for a float, "N" for None, and so
    # for these very types only. Four Nones after each list put all of this 9 bytes apart: where every
    # letter is in its place, they all are lists of `width` floats.
    count, size = len(vectors), 9 * (width + 1)
    padded: list[object] = [None] * (5 * count)
    padded[::5] = vectors
    data = marshal.dumps(padded, 2)
    if len(data) != 5 + count * size or data[5::size] != count * b"[" or data[10::9] != count * (width * b"g" + b"N"):
        return None
    return np.ndarray((count, width), "<f8", data, 11, (size, 9)).tobytes()


def decode(stream: bytes) -> list[tuple[str, list[float]]]:
    """Value of a stream.

    Raises
    ------
    ValueError
        If it is none that `encode` writes.
    """
    if len(stream) < _HEAD.size:
        raise ValueError("it is shorter than its head")
    magic, length, width = _HEAD.unpack_from(stream)
    if length > MOST_TEXT:
        raise ValueError(f"it has {length:,} bytes of labels, at most {MOST_TEXT:,} were written")
    start = _HEAD.size + length
    labels = _labels(stream[_HEAD.size : start])
    if magic != MAGIC or not width or len(stream) != start + 8 * width * len(labels) or len(stream) == start:
        raise ValueError("its lengths do not agree")
    return list(zip(labels, _rows(stream, start, len(labels), width), strict=True))


def _rows(stream: bytes, start: int, count: int, width: int) -> list[list[float]]:
    if sys.byteorder == "little":
        return memoryview(stream)[start:].cast("d", (count, width)).tolist()  # type: ignore[return-value]
    numbers = array("d", stream[start:])
    numbers.byteswap()
    return [numbers[n : n + width].tolist() for n in range(0, count * width, width)]


@lru_cache(maxsize=256)
def _labels(encoded: bytes) -> tuple[str, ...]:
    """Labels of a stream: those of one data set are few and come again and again."""
    return tuple(encoded.decode().split(_END)[:-1])
