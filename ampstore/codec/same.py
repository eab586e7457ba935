"""Are two values the very same: types, order, the bits of every float; sharing apart.

`==` does not tell: `1 == True`, `nan != nan`, `0.0 == -0.0`, arrays compare per element. Pickles
tell only if both values share the same parts. So both trees are walked, all lists of one level together: the types
of their items are compared, then the numbers and texts among these, which are nearly everything, as the bytes that
`marshal` makes of them in one call.
"""

import functools
import marshal
import pickle
import sys
from collections.abc import Callable, Iterator
from itertools import chain, compress
from typing import Any

_SURE = frozenset[type]((bool, int, float, complex, str, type(None)))
_PLAIN = _SURE | {bytes}  # marshal writes what has a buffer as bytes, too
_CONTAINERS = frozenset[type]((list, tuple, dict))
_WITHOUT_REFERENCES = 2  # the last version of marshal that writes shared objects again
# Not the long double, whose padding has any bytes.
_NUMBERS = (
    *("bool_", "float32", "float16", "complex128", "complex64"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
)


def same(a: object, b: object) -> bool:
    """Whether `b` is an exact copy of `a`."""
    pending: list[tuple[list[Any], list[Any]]] = [([a], [b])]
    seen: set[tuple[int, int]] = set()
    while pending:
        ones, others = pending.pop()
        kinds = frozenset(map(type, ones))
        if kinds <= _SURE:
            if not _written_alike(ones, others):
                return False
            continue
        types = list(map(type, ones))
        if types != list(map(type, others)) or not _leaves_equal(ones, others, types, kinds):
            return False
        for cls in kinds & _CONTAINERS:
            mask = [found is cls for found in types]
            some, as_many = list(compress(ones, mask)), list(compress(others, mask))
            if list(map(len, some)) != list(map(len, as_many)):
                return False
            pending += _parts(cls, some, as_many, seen)
    return True


def _written_alike(ones: list[Any], others: list[Any]) -> bool:
    """Compare plain values with whatever is beside them: each of their types has a letter of its own in marshal."""
    try:
        return _marshalled(ones) == _marshalled(others)
    except ValueError:  # the others have what marshal cannot write
        return False


def _parts(
    cls: type, ones: list[Any], others: list[Any], seen: set[tuple[int, int]]
) -> Iterator[tuple[list[Any], list[Any]]]:
    """Parts of all containers of one type, of either value; keys, values and items apart, so numbers are among numbers.

    Nothing of two that met before, as a list may hold itself, or one part again and again.
    """
    met = dict(zip(zip(map(id, ones), map(id, others), strict=True), zip(ones, others, strict=True), strict=True))
    if len(met) < len(ones) or not seen.isdisjoint(met):
        new = [pair for ids, pair in met.items() if ids not in seen]
        ones, others = [one for one, _ in new], [other for _, other in new]
    seen.update(met)
    if ones:
        yield list(chain.from_iterable(ones)), list(chain.from_iterable(others))
        if cls is dict:
            values = chain.from_iterable(map(dict.values, ones)), chain.from_iterable(map(dict.values, others))
            yield list(values[0]), list(values[1])


def _leaves_equal(ones: list[Any], others: list[Any], types: list[type], kinds: frozenset[type]) -> bool:
    """Compare those of two lists that are no containers; their types are equal one by one."""
    left = kinds - _CONTAINERS
    writers = _PLAIN_WRITERS if left <= _PLAIN or "numpy" not in sys.modules else _numpy_writers()
    for known, written in writers:
        if not left.isdisjoint(known):
            mask = list(map(known.__contains__, types))
            if written(list(compress(ones, mask))) != written(list(compress(others, mask))):
                return False
            left -= known
    return not left or all(
        _equal(one, other) for one, other, cls in zip(ones, others, types, strict=True) if cls in left
    )


def _marshalled(leaves: list[Any]) -> bytes:
    return marshal.dumps(leaves, _WITHOUT_REFERENCES)


def _doubles(leaves: list[Any]) -> bytes:
    from array import array  # a library of its own, which most programs never need

    return array("d", leaves).tobytes()  # a fifth of what marshal takes for them


def _texts(leaves: list[Any]) -> bytes:
    return _marshalled(list(map(str.__str__, leaves)))


_Writers = tuple[tuple[frozenset[type], Callable[[list[Any]], bytes]], ...]
_PLAIN_WRITERS: _Writers = ((_PLAIN, _marshalled),)


@functools.cache
def _numpy_writers() -> _Writers:
    """For plain values and NumPy's numbers and texts; marshal writes its numbers as their bytes."""
    import numpy

    numbers = frozenset[type](getattr(numpy, name) for name in _NUMBERS)
    return (
        *_PLAIN_WRITERS,
        (frozenset[type]((numpy.float64,)), _doubles),
        (frozenset[type]((numpy.str_,)), _texts),
        (numbers, _marshalled),
    )


def _equal(a: Any, b: Any) -> bool:
    """Compare two values of one type that is neither a container nor plain."""
    cls = type(a)
    try:
        if cls.__module__ == "numpy" and hasattr(a, "dtype") and not a.dtype.hasobject:
            return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes("A") == b.tobytes("A"))
        return pickle.dumps(a, 5) == pickle.dumps(b, 5) or (cls in (set, frozenset) and bool(a == b))
    except (ValueError, TypeError, AttributeError, pickle.PicklingError, RecursionError):
        return False
