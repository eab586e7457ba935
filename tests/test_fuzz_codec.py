"""Rows and streams that somebody changed: an error of ours or a value, in bounded memory, never a crash.

The long form: python -m pytest tests/test_fuzz_codec.py -m soak
"""

import random
import tracemalloc
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ampstore.codec import Codec, columns, same, vectors
from ampstore.codec import _checksum as checksum_of
from ampstore.codec.dictionaries import train
from ampstore.codec.recoding import Recipe
from ampstore.errors import CodecError, CorruptEntryError

SEED = 20_240_601
INTERESTING = (0, 1, 2, 7, 8, 127, 128, 254, 255, *b"KZPALTDSRMFfIiBVQq\n")


def lists(seed, atoms=6):
    rng = np.random.default_rng(seed)
    return [(rng.integers(0, 9, 40), rng.integers(-1, 2, (40, 3))) for _ in range(atoms)]


def fingerprint(seed):
    rng = np.random.default_rng(seed)
    return [("Cu" if n % 2 else "Pt", rng.normal(size=8).tolist()) for n in range(9)]


VALUES = [
    lists(1),
    fingerprint(2),
    {(n, "Cu", n % 3, "Pt", 0): [0.0, n / 7, -0.0, 1.5] for n in range(400)},
    [{"a": n, "b": [n, n / 2]} for n in range(300)],
    [(np.float64(n), np.str_("ab"), True) for n in range(500)],
]
STREAMS = [
    *(stream for value in VALUES if (stream := columns.encode(value, always=True))),
    *(stream for seed in range(3) if (stream := vectors.encode(fingerprint(seed)))),
]
DICTIONARY = train([columns.encode(lists(seed), always=True) for seed in range(40)], 2048)


def decoder(stream):
    return vectors.decode if stream[:2] == b"V1" else columns.decode


def mutated(stream, rng):
    """The stream with some bytes changed, removed, repeated or taken from elsewhere."""
    data = bytearray(stream)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        place, length = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 4, 8, 64))
        kind = rng.randrange(6)
        if kind < 2 and place < len(data):
            data[place] = rng.choice((rng.randrange(256), rng.choice(INTERESTING)))
        elif kind == 2:
            del data[place : place + length]
        elif kind == 3:
            data[place:place] = rng.randbytes(length)
        elif kind == 4:
            data[place : place + length] = data[rng.randrange(len(data) + 1) :][:length]
        elif place < len(data):
            data[place] ^= 1 << rng.randrange(8)
        if not data:
            data = bytearray(b"C1")
    return bytes(data)


def fuzz_streams(rounds, seed):
    rng = random.Random(seed)
    tracemalloc.start()
    try:
        for number in range(rounds):
            stream = rng.choice(STREAMS)
            bad = mutated(stream, rng)
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            try:
                decoder(stream)(bad)
            except ValueError:
                pass
            except BaseException as err:
                raise AssertionError(f"seed {seed}, round {number}: {bad!r}") from err
            assert tracemalloc.get_traced_memory()[1] - before < 600 * len(bad) + 500_000, (seed, number)
    finally:
        tracemalloc.stop()


def test_changed_streams_are_a_value_or_an_error():
    """Whatever is done to the bytes: ValueError or a value, with memory in proportion to the bytes."""
    fuzz_streams(1500, SEED)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_changed_streams_are_a_value_or_an_error_for_long():
    """The same half a million times; the seed is in the message."""
    for seed in range(100):
        fuzz_streams(5000, seed)


@lru_cache
def rows():
    codec = Codec(dictionaries={DICTIONARY.number: DICTIONARY.data}.get)
    found = []
    for value in VALUES:
        blob = codec.encode(value)
        row = (blob.codec, blob.size, blob.checksum, blob.payload)
        found.append((value, row))
        for recipe in (Recipe(3, False, DICTIONARY), Recipe(9, True)):
            stream = codec.unpack("k", *row)
            name, payload = recipe.payload(blob.codec.partition("+")[0], stream)
            found.append((value, (str(name), blob.size, checksum_of(stream, payload), payload)))
    return codec, found


def test_changed_rows_are_never_another_value():
    """A row with any bit flipped, in any column, gives the value or an error that names the entry."""
    codec, found = rows()
    rng = random.Random(SEED)
    for value, (name, size, checksum, payload) in found:
        assert same(codec.decode("k", name, size, checksum, payload), value)
        for _ in range(20):
            with pytest.raises(CorruptEntryError, match="'k'"):
                codec.decode("k", name, size, checksum, flipped(payload, rng))
            with pytest.raises(CorruptEntryError):
                codec.check("k", name, size, flipped(checksum, rng), payload)
            with pytest.raises(CorruptEntryError):
                codec.decode("k", name, size + rng.choice((-1, 1, 1 << 33)), checksum, payload)
            other = flipped(name.encode(), rng).decode("latin-1")
            try:
                assert same(codec.decode("k", other, size, checksum, payload), value), other
            except CodecError:
                pass


def flipped(data, rng):
    bad = bytearray(data)
    bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
    return bytes(bad)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_forged_rows_give_errors_of_ours(data):
    """A row whose CRC is right may say anything else: every error is a CodecError."""
    codec, found = rows()
    _, (name, size, _, payload) = data.draw(st.sampled_from(found))
    names = [row[0] for _, row in found]
    name = data.draw(st.one_of(st.just(name), st.sampled_from(names), st.text(max_size=30)))
    size = data.draw(st.one_of(st.just(size), st.integers(-2, 2**40)))
    payload = mutated(payload, random.Random(data.draw(st.integers(0, 2**32))))
    try:
        codec.decode("k", name, size, checksum_of(b"", payload), payload)
    except CodecError:
        pass
