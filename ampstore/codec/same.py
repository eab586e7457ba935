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


def same(a: object, b: object) -> bool:
    """Whether `b` is an exact copy of `a`."""
    pending: list[tuple[Any, Any]] = [(a, b)]
    seen: set[tuple[int, int]] = set()
    while pending:
        a, b = pending.pop()
        cls = type(a)
        if cls is not type(b):
            return False
        if cls is list or cls is tuple:
            if len(a) != len(b):
                return False
            if not _PLAIN.issuperset(map(type, a)):
                if (id(a), id(b)) not in seen:
                    seen.add((id(a), id(b)))
                    pending.extend(zip(a, b, strict=True))
                continue
        elif cls is dict:
            if len(a) != len(b):
                return False
            if (id(a), id(b)) not in seen:
                seen.add((id(a), id(b)))
                # Keys and values apart: the pairs of items() are temporaries, and ids of temporaries recur.
                pending.extend(zip(a, b, strict=True))
                pending.extend(zip(a.values(), b.values(), strict=True))
            continue
        if not _bytes_equal(a, b, cls):
            return False
    return True


def _bytes_equal(a: Any, b: Any, cls: type) -> bool:
    """Compare what is no container of containers, by the bytes that it is written as."""
    try:
        if cls in _PLAIN or cls is list or cls is tuple:
            return marshal.dumps(a, _WITHOUT_REFERENCES) == marshal.dumps(b, _WITHOUT_REFERENCES)
        if cls.__module__ == "numpy" and hasattr(a, "dtype") and not a.dtype.hasobject:
            return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes("A") == b.tobytes("A"))
        return pickle.dumps(a, 5) == pickle.dumps(b, 5) or (isinstance(a, (set, frozenset)) and bool(a == b))
    except (ValueError, TypeError, AttributeError, pickle.PicklingError, RecursionError):
        return False
