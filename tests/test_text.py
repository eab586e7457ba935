"""Pickles of protocol 0: the fast way to read arrays gives what the careful one gives, and refuses what it refuses."""

import io
import pickle
import random

import hypothesis.extra.numpy as given_numpy
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampstore.codec import readers, same
from ampstore.codec.guard import Guard
from ampstore.codec.legacy import load_legacy
from ampstore.codec.safe import Rule
from ampstore.codec.text import Text

PLAIN = given_numpy.arrays(
    st.one_of(
        given_numpy.integer_dtypes(), given_numpy.unsigned_integer_dtypes(), given_numpy.floating_dtypes(),
        given_numpy.complex_number_dtypes(), given_numpy.boolean_dtypes(),
    ),
    given_numpy.array_shapes(min_dims=0, min_side=0, max_side=4),
)  # fmt: skip
VALUES = st.recursive(
    st.one_of(PLAIN, st.floats(), st.integers(), st.text(), st.none(), st.booleans()),
    lambda inner: st.one_of(
        st.lists(inner),
        st.tuples(inner, inner),
        st.dictionaries(st.text(), inner),
        inner.map(lambda twice: (twice, twice)),
    ),
    max_leaves=8,
)


def carefully(data: bytes) -> object:
    return Rule().unpickle(io.BytesIO(data), encoding="latin1", careful=True)


def quickly(data: bytes) -> object:
    return Rule().unpickle(io.BytesIO(Text(data).with_calls() or data), encoding="latin1")


@pytest.fixture
def fast_only(monkeypatch):
    """No stream is read by the unpickler in Python."""

    def refuse(*_: object) -> None:
        raise AssertionError("read with care")

    monkeypatch.setattr("ampstore.codec.safe.CarefulReader", refuse)


@given(VALUES)
def test_whatever_is_pickled_as_text_is_read_as_the_careful_reader_reads_it(value):
    data = pickle.dumps(value, 0)
    assert Text(data).is_text()
    assert same(load_legacy("key", data, Rule()), carefully(data))


@pytest.mark.parametrize("dtype", ["<i8", ">i4", "u1", "<f8", ">f4", "?", "<c16"])
@pytest.mark.parametrize("shape", [(), (0,), (5,), (3, 4), (2, 0, 1)])
@pytest.mark.usefixtures("fast_only")
def test_plain_arrays_need_no_care(dtype, shape):
    one, other = numpy.ones(shape, dtype), numpy.full(shape, 2, dtype)[::-1].T if shape else numpy.zeros(shape, dtype)
    value = [one, other, (one, "text"), {"again": other}]
    data = pickle.dumps(value, 0)
    found = load_legacy("key", data, Rule())
    assert same(found, pickle.loads(data))
    assert found[0] is found[2][0]
    assert found[1] is found[3]["again"]


@pytest.mark.usefixtures("fast_only")
def test_the_neighbour_lists_of_amp_need_no_care(corpus):
    """As real Amp wrote them, with NumPy 1 and 2."""
    files = [
        file
        for container in corpus.rglob("*neighborlists.ampdb")
        for file in (container / "loose").glob("*")
        if Text(file.read_bytes()).is_text()
    ]
    assert files
    for file in files:
        load_legacy(file.name, file.read_bytes(), Rule())


def test_a_text_that_looks_like_an_array_stays_a_text():
    data = pickle.dumps(numpy.arange(3), 0)
    value = [data.decode("latin-1"), data.decode("latin-1").split("\n"), numpy.arange(3)]
    assert same(load_legacy("key", pickle.dumps(value, 0), Rule()), value)


@pytest.mark.parametrize(
    "state",
    [
        b"(I1\n(I3\ntcnumpy\ndtype\n(VO8\nI00\nI01\ntR(I3\nV|\nNNNI-1\nI-1\nI0\ntbI00\nS'abc'\nt",
        b"(I1\n(I4000000000000\ntcnumpy\ndtype\n(Vf8\nI00\nI01\ntR(I3\nV<\nNNNI-1\nI-1\nI0\ntbI00\nS'abc'\nt",
        b"(I1\n(I99999999\ntcnumpy\ndtype\n(VV0\nI00\nI01\ntR(I3\nV|\nNNNI-1\nI-1\nI0\ntbI00\nS''\nt",
        b"(I1\n(I3\ntg0\nI00\nS'abc'\nt",
    ],
    ids=["objects", "huge", "nothing", "no-dtype"],
)
def test_a_state_that_lies_is_refused_both_ways(state):
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    data = b"VO\np0\n0" + empty + b"p1\n" + state + b"b."
    for read in (carefully, quickly):
        with pytest.raises(Exception, match=r"\S"):
            read(data)
    with pytest.raises(ValueError, match="key"):
        load_legacy("key", data, Rule())


def test_an_array_that_gets_no_state_is_none():
    """An empty one that NumPy's recipe leaves behind is read with care, never as its stand-in."""
    data = b"(lp0\ncnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntRa."
    assert isinstance(quickly(data)[0], numpy.ndarray)


def test_the_rest_of_long_lines_makes_no_difference():
    """Cut or not, a stream is text or it is not; what was cut comes back as it was."""
    rng = random.Random(3)
    value = ["V" * 400, "(S" * 300, numpy.arange(200), b"S" * 300, {"(V" * 200: numpy.ones(100)}, "x" * 500]
    data, found = pickle.dumps(value, 0), set()
    assert Text(data)._cuts
    for number in range(2000):
        changed = bytearray(data)
        for _ in range(number and rng.randrange(1, 4)):
            changed[rng.randrange(len(changed))] = rng.choice(b"VS(\n.\0\xffcFp" + data)
        cut, whole = Text(bytes(changed)), Text(bytes(changed))
        whole._short, whole._cuts = bytes(changed), []
        assert cut.is_text() == whole.is_text()
        assert cut.with_calls() == whole.with_calls()
        found.add(cut.is_text())
    assert found == {True, False}
    assert same(load_legacy("key", data, Rule()), carefully(data))


@pytest.mark.parametrize("seed", range(4))
def test_changed_bytes_are_never_read_otherwise_than_with_care(seed):
    """Whatever the fast way makes of a damaged stream, the careful one makes the same, or refuses it."""
    rng = random.Random(seed)
    value = [numpy.arange(4), (numpy.eye(2), "text"), numpy.float64(2), numpy.arange(4 if seed else 400)]
    data = pickle.dumps(value, 0)
    different = 0
    for _ in range(3000):
        changed = bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            changed[rng.randrange(len(changed))] = rng.choice(data)
        if not Text(bytes(changed)).is_text():
            continue
        try:
            fast = quickly(bytes(changed))
        except Exception:  # noqa: S112 - refused: it is read with care then
            continue
        try:
            slow = carefully(bytes(changed))
        except Exception as err:
            pytest.fail(f"read although it is refused with care: {err!r} {changed!r}")
        different += not same(fast, slow) and repr(type(slow[2])) != repr(Guard)
    assert different == 0


def test_binary_opcodes_and_far_places_are_no_text():
    assert Text(pickle.dumps([1.0, "a", float("nan"), float("-inf"), 2**70], 0)).is_text()
    for data in (pickle.dumps(["a", 1], 2), b"(lp0\nr\xff\xff\xff\x7f.", b"(lp99999999\n.", b"(lp0\n", b"", b"F1.0\n"):
        assert not Text(data).is_text()


def test_what_needs_care_is_read_with_care_once(monkeypatch):
    value = [numpy.array(["a", None], object), numpy.zeros(2, [("a", "i4")])]
    data, made = pickle.dumps(value, 0), []

    class Counted(readers.CarefulReader):
        def __init__(self, *arguments):
            made.append(self)
            super().__init__(*arguments)

    monkeypatch.setattr("ampstore.codec.safe.CarefulReader", Counted)
    assert pickle.dumps(load_legacy("key", data, Rule()), 4) == pickle.dumps(value, 4)
    assert len(made) == 1
