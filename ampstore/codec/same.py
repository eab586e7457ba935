"""Are two values the very same: types, order, the bits of every float; sharing apart.

`==` does not tell: `1 == True`, `nan != nan`, `0.0 == -0.0`, arrays compare per element. Pickles
tell only if both values share the same parts. So the trees are walked, and lists of plain numbers
and texts, which are nearly everything, are compared as the bytes that `marshal` makes of them.
"""

import marshal
import pickle
from typing import Any

_PLAIN = frozenset((bool, int, float, complex, str, bytes, type(None)))
_WITHOUT_REFERENCES = 2  # the last version of marshal that writes shared objects again

_Pairs = list[tuple[Any, Any]]


def same(a: object, b: object) -> bool:
    """Whether `b` is an exact copy of `a`."""
    pending: _Pairs = [(a, b)]
    seen: set[tuple[int, int]] = set()
    while pending:
        one, other = pending.pop()
        if type(one) is not type(other):
            return False
        if not _has_parts(one):
            if not _bytes_equal(one, other):
                return False
        elif len(one) != len(other):
            return False
        elif (id(one), id(other)) not in seen:
            seen.add((id(one), id(other)))
            pending += _parts(one, other)
    return True


def _has_parts(value: Any) -> bool:
    """Whether a value is a container of more than plain numbers and texts."""
    cls = type(value)
    return cls is dict or ((cls is list or cls is tuple) and not _PLAIN.issuperset(map(type, value)))


def _parts(one: Any, other: Any) -> _Pairs:
    # Keys and values apart: the pairs of items() are temporaries, and ids of temporaries recur.
    pairs = list(zip(one, other, strict=True))
    if type(one) is dict:
        pairs += zip(one.values(), other.values(), strict=True)
    return pairs


def _bytes_equal(a: Any, b: Any) -> bool:
    """Compare two values of one type by the bytes that they are written as."""
    cls = type(a)
    try:
        if cls in _PLAIN or cls is list or cls is tuple:
            return marshal.dumps(a, _WITHOUT_REFERENCES) == marshal.dumps(b, _WITHOUT_REFERENCES)
        if cls.__module__ == "numpy" and hasattr(a, "dtype") and not a.dtype.hasobject:
            return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes("A") == b.tobytes("A"))
        return pickle.dumps(a, 5) == pickle.dumps(b, 5) or (cls in (set, frozenset) and bool(a == b))
    except (ValueError, TypeError, AttributeError, pickle.PicklingError, RecursionError):
        return False
