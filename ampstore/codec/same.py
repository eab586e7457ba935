"""Are two values the very same: types, order, bits of every float, sharing apart.

`==` does not tell: `1 == True`, `nan != nan`, `0.0 == -0.0`, arrays compare per element. Equal
pickles tell for nearly everything and at the speed of C; the walk decides about the rest.
"""

import pickle
import struct


def same(a: object, b: object) -> bool:
    """Whether `b` is an exact copy of `a`."""
    try:
        if pickle.dumps(a, 5) == pickle.dumps(b, 5):
            return True
    except Exception:
        return False
    return _walk(a, b)


def _walk(a: object, b: object) -> bool:
    """Compare trees; streams of equal values differ where one shares what the other repeats."""
    pending, seen = [(a, b)], set[tuple[int, int]]()
    while pending:
        a, b = pending.pop()
        if a is b or (id(a), id(b)) in seen:
            continue
        if type(a) is not type(b):
            return False
        seen.add((id(a), id(b)))
        if isinstance(a, float) and isinstance(b, float):
            equal = struct.pack("<d", a) == struct.pack("<d", b)
        elif isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
            equal = len(a) == len(b)
            pending.extend(zip(a, b, strict=False))
        elif isinstance(a, dict) and isinstance(b, dict):
            equal = len(a) == len(b)
            # Keys and values apart: the pairs of items() are temporaries, and ids of temporaries recur.
            pending.extend(zip(a, b, strict=False))
            pending.extend(zip(a.values(), b.values(), strict=False))
        elif isinstance(a, (set, frozenset)):
            equal = a == b
        else:
            equal = pickle.dumps(a, 5) == pickle.dumps(b, 5)
        if not equal:
            return False
    return True
