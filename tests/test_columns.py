"""Typed columns: exact, deterministic, closed to hostile bytes, and readable from docs/columns.md alone."""

import os
import pickle
import random
import struct
import subprocess
import sys
import tracemalloc
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ampstore.codec.columns import decode, encode

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "examples"))
from read_columns import loads as read_columns  # noqa: E402 - written from docs/columns.md alone

CORPUS = Path(os.environ.get("AMPSTORE_CORPUS", ROOT.parent / "shared" / "legacy"))


def same(a, b):
    """Whether two values agree in every type, order and bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack("<d", a) == struct.pack("<d", b)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return same(list(a), list(b)) and same(list(a.values()), list(b.values()))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return a == b


def neighborlist(atoms=4, seed=0):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 30, atoms)
    return [(rng.integers(0, atoms, n), rng.integers(-2, 2, (n, 3))) for n in sizes]


def fingerprints(atoms=4, seed=0, numpy_scalars=False):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(atoms, 6)) * (rng.random((atoms, 6)) > 0.3)
    if numpy_scalars:
        return [(np.str_("Cu"), [x or 0.0 for x in row]) for row in rows]
    return [("Cu" if i % 2 else "Pt", row.tolist()) for i, row in enumerate(rows)]


def primes(atoms=4, seed=0, numpy_scalars=False):
    rng = np.random.default_rng(seed)
    value = {}
    for i in range(atoms):
        for j in range(atoms):
            for axis in range(3):
                key = (i, "Cu", i, "Cu", axis) if i == j else (i, "Cu", np.int64(j), np.str_("Pt"), axis)
                row = rng.normal(size=6) * (rng.random(6) > 0.4)
                value[key] = list(row) if numpy_scalars else row.tolist()
    return value


NAN = struct.unpack("<d", bytes.fromhex("efbeaddeefbef47f"))[0]
REAL = {
    "neighborlists": neighborlist(),
    "fingerprints": fingerprints(),
    "fingerprints of numpy": fingerprints(numpy_scalars=True),
    "primes": primes(),
    "primes of numpy": primes(numpy_scalars=True),
}
ODD = {
    "special floats": [-0.0, 0.0, NAN, -NAN, float("inf"), float("-inf"), 5e-324, float("nan")],
    "all zeros": [0.0] * 40,
    "nearly all zeros": [0.0] * 40 + [1.5],
    "numpy among floats": [1.5, np.float64(-0.0), 0.0, np.float64(NAN)],
    "bool among ints": [True, 1, False, 0, np.int64(1), 1.0, np.float64(1), "1", np.str_("1")],
    "repeated and mixed": [True, 1, np.int64(1), "a", np.str_("a")] * 20,
    "wide ints": [-(2**63), 2**63 - 1, 0, -1],
    "unsigned ints": [2**64 - 1, 0],
    "texts": ["", "Cu", "ü", "\U0001f600", "\ud83d", "\ude00", "a\0"],
    "empty": [],
    "empty ones": [[], (), {}, "", np.zeros(0), np.zeros(0)],
    "nested tuples": [((1, 2), "a"), ((3, 4), "b"), ((), "c")],
    "tuples of one": [(1,), (2,)],
    "long tuples": [tuple(range(9)), tuple(range(9, 18))],
    "dict of dicts": {"a": {1: 2.0}, "b": {}},
    "float keys": {NAN: 1, -0.0: 2, 1.5: 3},
    "scalar": 1.5,
    "list at the end of floats": [1.0, 2.0, [3.0]],
    "arrays": [np.zeros((0, 3), int), np.arange(6).reshape(2, 3), np.full((1, 1), -(2**63))],
    "arrays of no axes": [np.array(1.5), np.array(NAN)],
    "bool array": np.array([[True, False]]),
    "unsigned array": np.array([2**64 - 1, 1], np.uint64),
    "negative bytes": np.array([5, -1], np.int8),
    "half": np.array([1.5, -0.0, 0.0], np.float16),
    "single": np.array([[0.0], [0.0], [1e-40], [-3]], np.float32),
    "complex": np.array([1 + 2j, 0j, -0.0 - 0.0j]),
    "complex single": np.array([1 + 2j, 0j], np.complex64),
    "eight axes": np.arange(6).reshape(1, 1, 1, 2, 3, 1, 1, 1),
    "no items, long axis": np.zeros((0, 2**40)),
    "rows of small numbers": [np.array([[-1, 0, 2], [1, -2, 0]]), np.zeros((0, 3), int), np.array([[0, 0, 1]])],
    "rows of all bytes": np.arange(-128, 128, dtype=np.int8).reshape(128, 2)[:, ::-1].copy(),
    "rows of one number each": np.full((5, 4), 127, np.uint64),
    "rows that a byte just holds": np.array([[-128, 5], [127, 5]], np.int8),
    "rows that a byte cannot hold": np.array([[-128, 5], [127, 6]], np.int16),
    "rows of two lengths": [np.ones((2, 3), int), np.ones((2, 2), int)],
}
SUBCLASS = type("SubList", (list,), {})
ROW = [1.5, 2.5]
GRID = np.arange(4)
PAIR = (1, (2, 3))
MISFITS = {
    "too large int": [2**64],
    "ints of too wide a range": [-1, 2**64 - 1],
    "None": [None],
    "bytes": [b"a"],
    "complex": [1j],
    "subclass of list": [SUBCLASS([1.0])],
    "subclass of dict": OrderedDict(a=1.0),
    "other scalar": [np.float32(1)],
    "object array": np.array([None]),
    "structured array": np.zeros(2, [("a", "i8")]),
    "big-endian array": np.arange(3, dtype=">i8"),
    "Fortran order": np.arange(6).reshape(2, 3).T,
    "metadata": np.zeros(2, np.dtype("i8", metadata={"a": 1})),
    "matrix": np.arange(6).reshape(2, 3).view(np.recarray),
    "arrays of two types": [np.zeros(2), np.zeros(2, int)],
    "shared list": [ROW, ROW],
    "shared at two levels": [[ROW], ROW],
    "shared array": [(GRID, 1), (GRID, 2)],
    "shared inner tuple": [PAIR, (2, PAIR[1])],
    "bool that is neither": np.array([2], np.uint8).view(bool),
    "function among texts": ["a", len],
}


def cyclic():
    value = [1.0]
    value.append(value)
    return value


def deep():
    value = [1.0]
    for _ in range(100):
        value = [value]
    return value


def unfolding():
    value = ("a",) * 8
    for _ in range(40):
        value = (value,) * 8
    return [value]


@pytest.mark.parametrize("name", [*REAL, *ODD])
def test_value_comes_back_exactly(name):
    """Types, order, every bit and every shape of a value survive."""
    value = REAL.get(name, ODD.get(name))
    stream = encode(value, always=True)
    assert same(decode(stream), value)


@pytest.mark.parametrize("name", [*REAL, *ODD])
def test_specification_is_enough_to_read(name):
    """A reader written from docs/columns.md alone reads every stream."""
    value = REAL.get(name, ODD.get(name))
    assert same(read_columns(encode(value, always=True)), value)


@pytest.mark.parametrize("name", MISFITS)
def test_what_does_not_fit_is_left_to_pickle(name):
    """Other types, subclasses, shared containers and odd arrays give None."""
    assert encode(MISFITS[name], always=True) is None


@pytest.mark.parametrize("make", [cyclic, deep, unfolding])
def test_endless_values_are_left_to_pickle(make):
    """A value that holds itself, is very deep or unfolds without end gives None at once."""
    assert encode(make()) is None
    assert encode(make(), always=True) is None


def test_example_of_the_specification_is_what_encode_writes():
    """The worked example of docs/columns.md, byte for byte."""
    stream = encode([("Cu", [1.5, 0.0]), ("Pt", [2.5, 3.5])], always=True)
    head = "4331 4c4202 5402 5304000000 4202024375 5074 4c420202 46 5a0d 3f4040 f8040c"
    assert stream == bytes.fromhex(head) + bytes(18)


def test_real_shapes_are_taken_unasked():
    """Neighbour lists, fingerprints and derivatives of real size are worth columns."""
    for value in (neighborlist(20), fingerprints(250), primes(20), primes(20, numpy_scalars=True)):
        assert encode(value) is not None


@pytest.mark.parametrize("value", [1.5, "a", [1.0] * 1000, {"a": 1}, [("Cu", [1.0])], np.zeros(1000), [[]], {}, []])
def test_small_and_flat_values_stay_pickles(value):
    """Columns are not forced on values that are faster as pickles."""
    assert encode(value) is None


def test_equal_values_have_equal_streams():
    """Stores compare digests, so a value that was read and written again must not change its stream."""
    for value in [*REAL.values(), *ODD.values()]:
        stream = encode(value, always=True)
        assert encode(decode(stream), always=True) == stream
        assert encode(pickle.loads(pickle.dumps(value, 2)), always=True) == stream


def test_arrays_come_back_fresh_and_writable():
    """Every array owns its memory, so that a program may change it, at every call another one."""
    stream = encode(neighborlist(6), always=True)
    for first, second in zip(decode(stream), decode(stream), strict=True):
        for a, b in zip(first, second, strict=True):
            assert a.flags.owndata
            assert a.flags.writeable
            assert a.flags.c_contiguous
            assert not np.shares_memory(a, b)


def test_lists_come_back_unshared():
    """Equal rows, empty ones too, are objects of their own."""
    value = decode(encode([[], [], [0.0], [0.0]], always=True))
    assert len(set(map(id, value))) == 4


def test_plain_values_need_no_numpy():
    """Symbols, keys and floats without zeros are written and read without importing NumPy."""
    program = (
        "import sys; from ampstore.codec.columns import decode, encode; "
        "value = [('Cu', [1.5, -2.5] * 10)] * 1 + [('Pt', [3.5, 4.5] * 10)]; "
        "assert decode(encode(value, always=True)) == value; print('numpy' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert out.stdout.split() == ["False"]


scalars = st.one_of(
    st.floats(),
    st.floats().map(np.float64),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-300, 300),
    st.integers(-(2**63), 2**63 - 1).map(np.int64),
    st.booleans(),
    st.text(max_size=4),
    st.sampled_from(["Cu", "Pt", np.str_("Cu"), np.str_("Pt")]),
    st.none(),
)
dtypes = st.sampled_from("bBhHiIqQefdFD")
arrays = st.builds(
    lambda code, shape, data: np.resize(np.frombuffer(data.ljust(16, b"\0"), "B"), (*shape, 16)).view("<" + code),
    dtypes,
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.binary(max_size=16),
)
keys = st.one_of(scalars, st.tuples(scalars, scalars))
values = st.recursive(
    st.one_of(scalars, arrays, st.lists(st.floats(), max_size=9), st.lists(st.sampled_from([0.0, 1.5]), max_size=40)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=9).map(tuple),
        st.dictionaries(keys, inner, max_size=5),
        st.lists(st.tuples(inner, inner), max_size=5),
    ),
    max_leaves=30,
)


@settings(max_examples=500, deadline=None)
@given(values)
def test_any_value_comes_back_exactly_or_stays_a_pickle(value):
    """Over all shapes: exact for both readers and deterministic, or None."""
    stream = encode(value, always=True)
    if stream is not None:
        assert same(decode(stream), value)
        assert same(read_columns(stream), value)
        assert encode(decode(stream), always=True) == stream


def damaged(stream):
    """The value of a damaged stream, or None; nothing else than ValueError may escape."""
    try:
        return decode(stream)
    except ValueError:
        return None


@pytest.mark.parametrize("name", [*REAL, *ODD])
def test_every_truncation_and_garbage_is_refused(name):
    """A stream that is cut anywhere, or goes on, is damaged."""
    stream = encode(REAL.get(name, ODD.get(name)), always=True)
    for end in range(len(stream)) if len(stream) < 3000 else random.Random(1).sample(range(len(stream)), 1000):
        with pytest.raises(ValueError, match="."):
            decode(stream[:end])
    with pytest.raises(ValueError, match="after the end"):
        decode(stream + b"\0")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*REAL, *ODD])
def test_changed_bytes_never_escape_as_other_errors(name):
    """Any byte of a stream may be anything: a value or ValueError, with bounded memory."""
    stream = encode(REAL.get(name, ODD.get(name)), always=True)
    rng = random.Random(name)
    tracemalloc.start()
    for _ in range(600):
        bad = bytearray(stream)
        for _ in range(rng.choice((1, 1, 2, 5))):
            place = rng.randrange(min(len(bad), rng.choice((40, 10**6))))
            bad[place] = rng.choice((rng.randrange(256), *b"BHQqLTDAMZRSs"))
        damaged(bytes(bad))
    assert tracemalloc.get_traced_memory()[1] < 400 * len(stream) + 300_000
    tracemalloc.stop()


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.sampled_from([*b"FfIiBSsRMLVTDAPZ", *b"FfIiBSsRMLVTDAPZ\0\1\2\x03bBHhiIqQd", *range(256)]), max_size=60)
)
def test_random_bytes_never_escape_as_other_errors(data):
    """No bytes at all make decode raise anything but ValueError."""
    damaged(b"C1" + bytes(data))


@pytest.mark.parametrize(
    "body",
    [
        b"Lq" + (10**12).to_bytes(8, "big") + b"L",
        b"LB\xffLB",
        b"LI\xff\xff\xff\xffFZ",
        b"LI\0\0\xff\xffFZ" + bytes(9000),
        b"T\xff",
        b"T\1IB\0",
        b"T\0",
        b"R\xff\xff\xff\xffB\0S",
        b"R\1\0\0\0B\0LB\0",
        b"R\1\0\0\0B\0T\1LB\0",
        b"S\xff\xff\xff\xffB\xff",
        b"Ad\2q" + (2**62).to_bytes(8, "big") + b"q" + (2**62).to_bytes(8, "big"),
        b"Ad\3B\0q" + (2**62).to_bytes(8, "big") * 2,
        b"Ab\1B\1q" + bytes(8),
        b"A?\1B\1\2",
        b"AO\0",
        b"Ad\x09",
        b"B\2",
        b"MB\0",
        b"LB\1" * 30 + b"FP" + bytes(8),
        b"DB\2RB\0\0",
        b"DB\1LB\0B\1",
        b"DB\2IB\1\1IB\1\1",
        b"Lb\xff",
        b"Aq\2B\1B\2K\2\0\0\1\1\4",
        b"Aq\2B\1B\2K\2\0\0\xff\1\0",
        b"Ab\2B\1B\2K\2\x7f\0\1\1\0",
        b"AB\2B\1B\2K\2\xff\0\1\1\0",
        b"Aq\2B\1B\3K\2\0\0\1\1\0",
        b"Aq\2B\1B\2K\1\0\1\0\0",
        b"IK\2\0\0\1\1\0",
        b"iQ\xff\xff\xff\xff\xff\xff\xff\xff",
        b"sP",
        b"",
    ],
)
def test_unbacked_sizes_and_wrong_codes_are_refused(body):
    """Counts, widths, codes, indices and keys that no writer makes are damage, found without allocating for them."""
    tracemalloc.start()
    with pytest.raises(ValueError, match="."):
        decode(b"C1" + body)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_other_versions_are_refused():
    """A stream of another version says so."""
    with pytest.raises(ValueError, match="version"):
        decode(b"C2FP" + bytes(8))


@pytest.mark.skipif(not (CORPUS / "make_corpus.py").exists(), reason="the corpus of legacy values is not here")
@pytest.mark.parametrize("numpy_scalars", [False, True])
@pytest.mark.parametrize("kind", ["neighborlists", "fingerprints", "fingerprint-primes"])
def test_values_of_real_amp_come_back_exactly(kind, numpy_scalars, monkeypatch):
    """What Amp 1.0.1 computed for 8 to 100 atoms fits and survives."""
    monkeypatch.syspath_prepend(str(CORPUS))
    import make_corpus

    for atoms in ("8", "20", "48", "100") if kind != "fingerprint-primes" else ("8", "20"):
        value = make_corpus.Maker(atoms, numpy_scalars).make(kind, "0", 1)
        stream = encode(value, always=True)
        assert same(decode(stream), value)
