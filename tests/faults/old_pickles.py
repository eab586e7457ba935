"""Pickles values as old programs do, under any Python from 2.7 on: `python old_pickles.py`.

Prints one line of JSON: [protocol, name, stream in hex] for every protocol that this Python has. Values with arrays
are there if this Python has NumPy; without it they are written as NumPy 1 and 2 write them.
"""

import binascii
import collections
import datetime
import decimal
import fractions
import json
import pickle
import sys
import uuid

VALUES = {
    "fingerprints": [("Cu", [0.1, 0.0, -0.0, 1e-300, 1.5]), ("Pt", [2.5, 1e22, -7.0])],
    "primes": {(0, "Cu", 1, "Pt", 2): [0.5, 0.0], (1, "Pt", 0, "Cu", 0): [-0.5]},
    "numbers": [0, 1, -1, 255, 256, 65535, 65536, 2**31, -(2**31), 2**63, 2**70, -(2**70), 10**300],
    "floats": [0.0, -0.0, 1.5, 1e308, 5e-324, float("inf"), -float("inf")],
    # Text of Python 2 too: a prefix u would be taken for superfluous.
    "text": b"|a|\xc3\xa4\xc3\xb6|\xe2\x82\xac|\xf0\x9f\x98\x80|line\nbreak\\r|".decode("utf-8").split("|"),
    "long text": b"x".decode("ascii") * 300,
    "nested": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [[[]]], {"a": {"b": [None, True, False]}}],
    "sets": [{1, 2, 3}, frozenset([4, 5])],
    "stdlib": [
        collections.OrderedDict([("b", 1), ("a", 2)]),
        collections.deque([1, 2], 5),
        decimal.Decimal("1.25"),
        fractions.Fraction(1, 3),
        uuid.UUID(int=7),
        datetime.datetime(2020, 1, 2, 3, 4, 5, 6),
        datetime.date(2020, 1, 2),
        datetime.timedelta(1, 2, 3),
    ],
    "complex": [1 + 2j],
}


def main():
    module = pickle
    if sys.version_info[0] == 2:  # noqa: UP036 - this program runs on all of them
        import cPickle as module  # Amp on Python 2
    values = dict(VALUES)
    try:
        import numpy
    except ImportError:
        pass
    else:
        values["neighborlists"] = [(numpy.arange(3), numpy.arange(9).reshape(3, 3))]
        values["arrays"] = [numpy.linspace(0, 1, 7), numpy.array(["Cu", "Pt"]), numpy.float64(0.1), numpy.int64(-3)]
    found = []
    for protocol in range(module.HIGHEST_PROTOCOL + 1):
        for name in sorted(values):
            stream = module.dumps(values[name], protocol)
            found.append([protocol, name, binascii.hexlify(stream).decode("ascii")])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
