"""F31: the smallest and the largest values, very many keys, keys of every kind."""

import sys
import tracemalloc
import unicodedata

import pytest

from ampstore import FileDatabase, Store
from ampstore.errors import EntryTooLargeError, InvalidKeyError
from faults.processes import run

SMALL = [b"", "", [], (), {}, set(), None, 0, b"\0", "\0", " ", False, float("inf"), -0.0, bytearray()]

KEYS = ["", "\0", " ", "\n", "a\0b", "/", "..", ".", "a" * 100_000, "é", unicodedata.normalize("NFD", "é")]
KEYS += [
    "ß",
    "SS",
    "ﬁ",
    "İ",
    "i̇",
    "עברית",
    "\u202eabc",
    "👩‍👩‍👧‍👦",
    "\U0010ffff",
    "\ufffe",
    "\ufeff",
    "𝔘",
    "a%b_c*",
    "';--",
]

TOO_LARGE = """
import os, sys, ampstore
from ampstore.errors import EntryTooLargeError
with ampstore.Store(sys.argv[1]) as store:
    store["a"] = 1
    value = os.urandom(1 << 20) * 1000  # compresses well, and is read back
    store["a"] = value
    assert store["a"] == value
    value = b"".join(os.urandom(1 << 20) for _ in range(1010))  # does not compress
    try:
        store["a"] = value
        print("stored")
    except EntryTooLargeError as err:
        print(err)
    assert len(store["a"]) == 1000 << 20
"""


@pytest.mark.parametrize("kind", [Store, FileDatabase])
@pytest.mark.fault("F31", "empty values and values of one byte; keys of every kind of Unicode, also 100,000 characters")
def test_small_values_and_odd_keys_come_back_exactly(fault, elsewhere, kind):
    """Nothing is normalised, folded or cut; keys that differ in one code point are different keys."""
    with kind(elsewhere / "a") as store:
        for number, value in enumerate(SMALL):
            store[f"v{number}"] = value
        for number, key in enumerate(KEYS):
            store[key] = number
        for number, value in enumerate(SMALL):
            found = store[f"v{number}"]
            if (type(found), repr(found)) != (type(value), repr(value)):
                fault.wrong(f"{value!r} came back as {found!r}")
            fault.injected()
        for number, key in enumerate(KEYS):
            if store.get(key) != number or key not in store:
                fault.wrong(f"{key[:20]!r} came back as {store.get(key)!r}")
            fault.injected()
        if len(store) != len(SMALL) + len(KEYS):
            fault.wrong(f"{len(store)} entries of {len(SMALL) + len(KEYS)}")
        for half in ("\ud800", "a\udfff"):
            with pytest.raises(InvalidKeyError):
                store[half] = 1
            fault.injected()
    fault.fact(by=kind.__name__)


def scalars(step):
    """Every `step`-th Unicode scalar value; with step 1 there are 1,112,064 of them."""
    for code in range(0, 0x110000, step):
        if not 0xD800 <= code < 0xE000:
            yield chr(code)


@pytest.mark.fault("F31", "a key of every Unicode scalar value; iteration in constant memory (injections: keys)")
def test_very_many_keys_are_iterated_in_constant_memory(fault, elsewhere):
    """Over a million in the long run: written from a generator, listed, counted, read."""
    step = fault.times(64, 1)
    with Store(elsewhere / "a.db") as store:
        count = store.put_many((f"{key}", [ord(key)] * 8) for key in scalars(step))
        tracemalloc.start()
        seen = 0
        for (key, value), right in zip(store.items(), scalars(step), strict=True):
            seen += key == right and value == [ord(key)] * 8
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        if not seen == count == len(store):
            fault.lost(f"{seen} of {count} keys came back, {len(store)} are counted")
        if peak > 30 << 20:
            fault.wrong(f"iterating takes {peak:,} bytes")
    fault.injected(count)
    fault.fact(peak_of_iteration=peak)


@pytest.mark.fault("F31", "1 GB that compresses is stored; over 1 GB that does not is refused with the limit")
def test_a_value_over_one_gigabyte_works_or_is_refused_with_the_limit(fault, tmp_path):
    """The long run does it with a gigabyte; the short one asks for the limit only."""
    fault.injected()
    if fault.long:
        ended = run([sys.executable, "-c", TOO_LARGE, tmp_path / "a.db"], 1200)
        if ended.hung or ended.code or "1,000,000,000" not in ended.output:
            fault.wrong(f"{ended.output} {ended.errors[-800:]}")
        return
    with Store(tmp_path / "a.db") as store:
        store.backend.largest = 50_000
        with pytest.raises(EntryTooLargeError, match="50,000"):
            store["a"] = fault.random.randbytes(60_000)
        if "a" in store:
            fault.wrong("a refused value is there")
