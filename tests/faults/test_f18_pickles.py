"""F18: hostile pickles, read in a process that listens to Python's own audit events."""

import json
import random
import struct
import subprocess

import pytest
from test_safety import BOMBS, GOOD, mutant, named, text

from faults.gadgets import EXTENSIONS, NAMES, chains, fuzzed, streams
from faults.processes import environment, python


def read_all(fault, pickles, timeout):
    """Hand (stream, must be refused) to a reader; judge what it says."""
    process = subprocess.Popen(
        python("reader"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    count = len(pickles)
    data = b"".join(struct.pack("<IB", len(stream), refuse) + stream for stream, refuse in pickles)
    try:
        output, errors = process.communicate(data, timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        fault.hung(f"reading {count} pickles took more than {timeout} s")
        return
    fault.injected(2 * count)
    lines = [json.loads(line) for line in output.splitlines()]
    for line in lines:
        if isinstance(line, list):
            fault.wrong(f"{line}")
    if not lines or not isinstance(lines[-1], dict):
        fault.wrong(f"the reader died with {process.returncode}: {errors[-2000:].decode()}")
        return
    summary = lines[-1]
    assert summary["read"] == count
    previous = fault.facts.get("peak_mb", 0)
    fault.fact(
        peak_mb=max(previous, summary["peak_mb"]), forbidden=summary["forbidden"] + fault.facts.get("forbidden", 0)
    )


@pytest.mark.fault("F18", "gadgets: names, attribute chains, persistent ids, extensions, by every opcode")
def test_no_gadget_imports_or_calls_anything(fault):
    """Hundreds of names by twenty routes: each is refused, no audit event is heard."""
    every = list(chains())
    few = every if fault.long else fault.random.sample(every, 150)
    pickles = [(stream, True) for pair in [*NAMES, *few] for stream in streams(*pair)]
    pickles += [(stream, True) for stream in EXTENSIONS]
    assert len(NAMES) >= 300
    assert len(every) >= 300
    fault.fact(names=len(NAMES), chains=len(few))
    read_all(fault, pickles, 120 if not fault.long else 1200)


@pytest.mark.fault("F18", "fuzzed opcodes and mutated pickles")
def test_no_fuzzed_stream_imports_or_calls_anything(fault):
    """A value or an error of ours, within seconds and 2 GB; nothing is imported, opened or run."""
    from ampstore.codec.safe import Rule

    good = [Rule().dumps(value, protocol) for value in GOOD for protocol in (0, 2, 4, 5)]
    for _ in range(fault.times(1, 20)):
        chance = random.Random(fault.random.randrange(2**32))
        pickles = [(fuzzed(chance), False) for _ in range(4000)]
        pickles += [(mutant(chance.choice(good), chance, good), False) for _ in range(4000)]
        read_all(fault, pickles, 120)


def nested(depth):
    """Values within each other, so deep that hashing or deleting them overflows the stack of C."""
    head = b"\x80\x05"
    slice_, array = named("builtins", "slice"), named("numpy.core.multiarray", "_reconstruct")
    one_array = b"h\x00h\x01K\x00\x85C\x01b\x87R(K\x01)h\x02\x89]"
    objects = (
        named("numpy", "dtype")
        + text("O")
        + b"\x89\x88\x87R(K\x03"
        + text("|")
        + b"NNN"
        + 2 * b"J\xff\xff\xff\xff"
        + b"K\x3ftb"
    )
    fields = b"h\x00" + text("V8") + b"\x89\x88\x87R(K\x03" + text("|") + b"N" + text("a") + b"\x85}" + text("a")
    yield head + b"})" + b"\x85" * depth + b"K\x01s."
    yield head + b"})" + b"K\x00\x86" * depth + b"K\x01s."
    yield head + b"}" + b"(" * depth + b"t" * depth + b"K\x01s."
    yield head + b"(" + b")" + b"\x85" * depth + b"\x91."
    yield head + b"B\x64\x00\x00\x00" + b"\x85" * 100 + b"0})" + b"\x85" * depth + b"K\x01s."
    yield head + slice_ + b"\x940" + b"h\x00" * depth + b"N" + b"\x85R" * depth + b"."
    yield head + slice_ + b"\x940" + b"(h\x00" * depth + b"N" + b"o" * depth + b"."
    yield (
        head
        + array
        + b"\x940"
        + named("numpy", "ndarray")
        + b"\x940"
        + objects
        + b"\x940"
        + one_array * (depth // 8)
        + b"N"
        + b"atb" * (depth // 8)
        + b"."
    )
    yield (
        head
        + named("numpy", "dtype")
        + b"\x940"
        + fields * (depth // 50)
        + b"h\x00"
        + text("f8")
        + b"\x89\x88\x87R"
        + b"K\x00\x86sK\x08K\x01K\x10tb" * (depth // 50)
        + b"."
    )


def cycles(depth):
    """Instances whose hash is that of an attribute, with themselves in it: a thousand bytes, a million calls in C."""
    head, tuples = b"\x80\x05", b"\x85" * depth
    yield head + b"}" + named("uuid", "UUID") + b")\x81\x94}" + text("int") + b"h\x00" + tuples + b"sbK\x01s."
    for module, name, attribute in (
        ("fractions", "Fraction", "_numerator"),
        ("pathlib", "PurePosixPath", "_str_normcase_cached"),
        ("pathlib", "PosixPath", "_cparts"),
    ):
        made = named(module, name) + (text("1/3") + b"\x85R" if module == "fractions" else text("a") + b"\x85R")
        yield head + b"}" + made + b"\x94N}" + text(attribute) + b"h\x00" + tuples + b"s\x86bK\x01s."


@pytest.mark.fault("F18", "bombs: far memo places, nesting without end, values within themselves, frames that lie")
def test_bombs_are_refused_in_bounded_time_and_memory(fault):
    """No stream ends the process, takes gigabytes or minutes, in a store as in a legacy file."""
    deep = [stream for depth in ((60_000, 1_000_000) if fault.long else (60_000,)) for stream in nested(depth)]
    deep += [stream for depth in (1001, 5000, 40_000) for stream in cycles(depth)]
    pickles = [(stream, True) for stream in deep] + [(stream, False) for stream in BOMBS.values()]
    read_all(fault, pickles, fault.times(120, 1200))


@pytest.mark.fault("F18", "hostile codec names, sizes and frames in the rows of a store")
def test_rows_that_lie_give_named_errors(fault, tmp_path, raw):
    """A codec that nobody knows, a frame that bursts, a size beyond all bounds: a named error, the rest is served."""
    import sqlite3
    import zlib
    from contextlib import closing

    import zstandard

    import ampstore
    from ampstore.codec import Codec
    from ampstore.errors import CorruptEntryError

    path = tmp_path / "a.db"
    with ampstore.Store(path) as store:
        store["good"] = ["good"] * 100
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(1 << 26))
    plain = zstandard.ZstdCompressor().compress(b"x" * 1000)
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 1000)
    names = [
        "",
        "pickle",
        "pickle4",
        "pickle5+",
        "pickle5+zstd+zstd",
        "columns2",
        "+zstd",
        "zstd",
        "../pickle5",
        "pickle5\0",
    ]
    names += ["os.system", "PICKLE5", "pickle5 ", "x" * 100_000, "columns1+gzip", "zlib_codec", "\ufeffpickle5"]
    rows = [(name, 4, b"N.") for name in names]
    for codec in ("pickle5+zstd", "columns1+zstd", "vectors1+zstd"):
        rows += [
            (codec, size, frame)
            for frame in (bomb, plain, unsized, b"", plain[:7], plain * 2)
            for size in (0, 1, 999, 5 << 30, 2**62, -1)
        ]
        rows += [(codec, 1 << 26, bomb[:-9]), (codec, 1000, unsized), (codec.removesuffix("+zstd"), 2**40, b"N.")]
    rows += [
        (name, len(data), data)
        for name in ("columns1", "vectors1")
        for data in (b"", b"\0" * 9, b"\xff" * 99, fault.random.randbytes(500))
    ]
    with closing(sqlite3.connect(path)) as connection, connection:
        for number, (codec, size, payload) in enumerate(rows):
            checksum = bytes(16) + zlib.crc32(payload).to_bytes(4)
            connection.execute(
                "insert into entry (key, codec, kind, size, checksum, written_at, payload)"
                " values (?, ?, '', ?, ?, 0, ?)",
                (f"bad{number}", codec, size, checksum, payload),
            )
    with ampstore.Store(path) as store:
        for number, row in enumerate(rows):
            fault.injected()
            try:
                store[f"bad{number}"]
            except CorruptEntryError as err:
                assert f"bad{number}" in str(err)
            else:
                fault.wrong(f"{row[:2]} was read")
        assert store["good"] == ["good"] * 100
        assert {damage.key for damage in store.verify()} >= {f"bad{n}" for n in range(len(rows))}
    assert Codec().encode(1).codec == "pickle5"
