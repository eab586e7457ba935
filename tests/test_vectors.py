"""Small fingerprints as one block of floats: exact, deterministic, closed to hostile bytes."""

import math
import pickle
import random
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ampstore.codec import Codec
from ampstore.codec.vectors import MOST_FLOATS, decode, encode
from ampstore.errors import CorruptEntryError

FLOATS = st.floats(width=64, allow_nan=True)
LABELS = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=4)


@st.composite
def fingerprints(draw):
    width = draw(st.integers(1, 9))
    vector = st.lists(FLOATS, min_size=width, max_size=width)
    return draw(st.lists(st.tuples(LABELS, vector), min_size=1, max_size=12))


def bits(value):
    return [(label, struct.pack(f"<{len(vector)}d", *vector)) for label, vector in value]


def by_hand(stream):
    """Reader written from docs/format.md, without ampstore."""
    length, width = struct.unpack_from("<II", stream, 2)
    labels = stream[10 : 10 + length].decode().split("\n")[:-1]
    rows = [list(row) for row in struct.iter_unpack(f"<{width}d", stream[10 + length :])]
    return list(zip(labels, rows, strict=True))


@given(fingerprints())
@settings(max_examples=300, deadline=None)
def test_every_bit_and_type_comes_back(value):
    stream = encode(value)
    for found in (decode(stream), by_hand(stream)):
        assert bits(found) == bits(value)
        assert {type(pair) for pair in found} == {tuple}
        assert {type(number) for _, vector in found for number in vector} == {float}
        assert {type(vector) for _, vector in found} == {list}


@given(fingerprints())
@settings(max_examples=100, deadline=None)
def test_equal_values_have_equal_streams(value):
    assert encode(pickle.loads(pickle.dumps(value))) == encode(value)


def test_lists_are_not_shared_between_reads():
    stream = encode([("Cu", [1.0, 2.0]), ("Cu", [1.0, 2.0])])
    first = decode(stream)
    first[0][1].append(3.0)
    assert decode(stream) == [("Cu", [1.0, 2.0]), ("Cu", [1.0, 2.0])]


class Pair(tuple):
    __slots__ = ()


class Text(str):
    __slots__ = ()


class Vector(list):
    __slots__ = ()


class Number(float):
    __slots__ = ()


ONE = [1.0, 2.0]


@pytest.mark.parametrize(
    "value",
    [
        [],
        [("Cu", [])],
        [("Cu", ONE), ("Cu", ONE)],
        [("Cu", [1.0, 2.0]), ("Cu", [1.0])],
        [("Cu", [1.0]), ("Cu", [1.0, 2.0, 3.0]), ("Cu", [1.0, 2.0])],
        [("Cu", [1.0, 2.0]), ["Cu", [1.0, 2.0]]],
        [("Cu", [1.0, 2.0]), ("Cu", (1.0, 2.0))],
        [("Cu", [1.0, 2.0]), ("Cu", [1.0, 2])],
        [("Cu", [1.0, 2.0]), ("Cu", [1.0, True])],
        [("Cu", [1.0, 2.0]), ("Cu", [1.0, None])],
        [("Cu", [1.0, 2.0]), ("Cu", [1.0, "12345678"])],
        [("Cu", [1.0, 2.0]), ("Cu", [1.0, np.float64(2.0)])],
        [("Cu", [1.0, 2.0]), ("Cu", [1.0, Number(2.0)])],
        [("Cu", [1.0, 2.0]), ("Cu", Vector([1.0, 2.0]))],
        [("Cu", [1.0, 2.0]), Pair(("Cu", [1.0, 2.0]))],
        [("Cu", [1.0, 2.0]), (Text("Cu"), [1.0, 2.0])],
        [("Cu", [1.0, 2.0]), (np.str_("Cu"), [1.0, 2.0])],
        [("Cu", [1.0, 2.0]), (b"Cu", [1.0, 2.0])],
        [("Cu", [1.0, 2.0]), ("C\nu", [1.0, 2.0])],
        [("Cu", [1.0, 2.0]), ("\ud800", [1.0, 2.0])],
        [("Cu", [1.0, 2.0]), ("Cu", [1.0, 2.0], 3)],
        [("Cu", [1.0, 2.0]), None],
        Vector([("Cu", [1.0, 2.0])]),
        (("Cu", [1.0, 2.0]),),
        [("Cu", [0.5] * MOST_FLOATS)],
        [("Cu" * 10_000, [0.5])],
    ],
    ids=lambda value: repr(value)[:60],
)
def test_what_does_not_fit_exactly_is_left_to_others(value):
    assert encode(value) is None


def test_a_list_that_holds_itself_is_left_to_others():
    value = [("Cu", [1.0, 2.0])]
    value.append(("Cu", value))
    assert encode(value) is None


def test_a_store_keeps_small_fingerprints_as_vectors_and_says_what_they_are():
    value = [("Cu", [random.random() for _ in range(20)]) for _ in range(20)]
    blob = Codec().encode(value)
    assert (blob.codec, blob.kind) == ("vectors1", "list of 20 (symbol, float[20])")
    assert Codec().decode("key", *blob[:1], *blob[2:]) == value


def test_vectors_of_zeros_are_compressed():
    value = [("Cu", [0.0] * 20) for _ in range(20)]
    blob = Codec().encode(value)
    assert blob.codec == "vectors1+zstd"
    assert len(blob.payload) < 200
    assert Codec().decode("key", *blob[:1], *blob[2:]) == value


GOOD = encode([("Cu", [1.0, -0.0, math.inf]), ("Pt", [4.0, 5.0, 6.0])])


@given(st.binary(max_size=64) | st.binary(max_size=64).map(lambda tail: b"V1" + tail))
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_a_value_or_a_value_error(stream):
    try:
        value = decode(stream)
    except ValueError:
        return
    assert encode(value) is not None


@pytest.mark.parametrize("position", range(len(GOOD)))
def test_a_changed_byte_is_another_value_or_a_value_error(position):
    for byte in (0, 10, 0x7F, 0xFF):
        stream = GOOD[:position] + bytes((byte,)) + GOOD[position + 1 :]
        try:
            value = decode(stream)
        except ValueError:
            continue
        assert len(value) == 2


@pytest.mark.parametrize("length", range(len(GOOD)))
def test_a_truncated_stream_is_a_value_error(length):
    with pytest.raises(ValueError, match=r"head|lengths"):
        decode(GOOD[:length])


def test_a_stream_of_more_labels_than_are_ever_written_is_refused():
    with pytest.raises(ValueError, match="100,000 bytes of labels"):
        decode(struct.pack("<2sII", b"V1", 100_000, 1) + b"a\n" * 50_000 + bytes(8 * 50_000))


def test_damage_is_named_by_the_codec():
    codec = Codec()
    blob = codec.encode([("Cu", [1.0, 2.0])])
    with pytest.raises(CorruptEntryError, match="vectors1 stream is damaged"):
        codec.value("key", "vectors1", blob.payload[:-1])


def test_reading_needs_no_numpy():
    program = (
        "import sys; from ampstore.codec.vectors import decode; "
        f"assert decode({GOOD!r})[1] == ('Pt', [4.0, 5.0, 6.0]); assert 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
