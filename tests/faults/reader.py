"""Reads pickles from standard input under an audit hook, in 2 GB, and says what happened.

Each is read through both doors, that of a store and that of a legacy file. One line of JSON for each that did
anything but give a value or an error of ours; a last line with the counts. A crash shows as a line that is missing.
"""

import faulthandler
import fractions  # noqa: F401 - its guard imports it when it is called, long before a stream could say so
import json
import pickle
import resource
import struct
import sys
import time

import ase
import numpy as np

from ampstore.codec import safe
from ampstore.codec.legacy import load_legacy
from ampstore.codec.safe import Rule
from ampstore.errors import CodecError, CorruptEntryError, ForbiddenGlobalError, LegacyPickleError

OURS = (ForbiddenGlobalError, CorruptEntryError, LegacyPickleError)
# Names that can be looked up, and what numpy's and Python's own code does for values that are allowed.
HARMLESS = frozenset(("builtins.id", "object.__getattr__", "object.__setattr__", "object.__delattr__"))
SLOW = 5.0

heard: list[tuple[str, str]] = []
listening = False


def hook(event: str, arguments: tuple[object, ...]) -> None:
    if listening and event not in HARMLESS:
        heard.append((event, repr(arguments)[:200]))


def prepare() -> None:
    """Import all that values may need, so that a later import is one that a stream made."""
    for module, names in safe.CLASSES.items():
        for name in names:
            try:
                Rule().find(module, name)
            except (ImportError, AttributeError):
                pass
    for named in safe.GUARDS:
        Rule().find(*named)
    value = [np.arange(3), ase.Atoms("Cu"), np.ma.masked_array([1]), np.array([None]), np.array([(1, 2.0)], "i4,f8")]
    for protocol in range(6):
        stream = Rule().dumps(value, protocol)
        Rule().loads("k", stream)
        load_legacy("k", stream, Rule())


def main() -> None:
    global listening
    faulthandler.enable()
    prepare()
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
    sys.addaudithook(hook)
    rule, counts = Rule(), {"value": 0, "refused": 0, "forbidden": 0, "wrong": 0, "seconds": 0.0}
    doors = {"store": rule.loads, "legacy": lambda key, stream: load_legacy(key, stream, rule)}
    source, number = sys.stdin.buffer, 0
    while head := source.read(5):
        (size, must_refuse) = struct.unpack("<IB", head)
        stream = source.read(size)
        for door, load in doors.items():
            trouble, start = "", time.process_time()
            listening = True
            try:
                value = load("the key", stream)
            except ForbiddenGlobalError as err:
                listening = False
                counts["forbidden"] += 1
                if err.name not in str(err) or err.module not in str(err):
                    trouble = f"the refusal names no global: {err}"
            except OURS as err:
                listening = False
                counts["refused"] += 1
                if "the key" not in str(err):
                    trouble = f"the refusal names no key: {err}"
            except BaseException as err:
                listening = False
                trouble = f"foreign error {err!r}"
            else:
                listening = False
                counts["value"] += 1
                if must_refuse:
                    trouble = f"was read as {type(value)}"
                del value
            listening = False
            if heard:
                trouble += f" heard {heard[:5]}"
                heard.clear()
            seconds = time.process_time() - start
            counts["seconds"] = max(counts["seconds"], seconds)
            if seconds > SLOW:
                trouble += f" took {seconds:.1f} s"
            if trouble:
                counts["wrong"] += 1
                print(json.dumps([number, door, trouble, stream[:2000].hex()]), flush=True)
        number += 1
    assert issubclass(ForbiddenGlobalError, CodecError)
    assert np.dtype("f8").byteorder == "=" and pickle.loads(pickle.dumps({1})) == {1}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"read": number, "peak_mb": peak >> 10, **counts}), flush=True)


if __name__ == "__main__":
    main()
