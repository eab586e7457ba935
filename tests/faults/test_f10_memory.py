"""F10: values that ask for more memory than there is."""

import contextlib
import sqlite3
import sys

import pytest

from ampstore import Store
from faults.acknowledged import Acknowledged
from faults.judge import judge
from faults.processes import run

BOMBS = """
import contextlib, hashlib, pickle, sqlite3, struct, sys, zlib, zstandard
path = sys.argv[1]
GB = 1 << 30

def row(key, codec, stream, payload, size=None):
    checksum = hashlib.sha256(stream).digest()[:16] + zlib.crc32(payload).to_bytes(4)
    return key, codec, "bomb", len(stream) if size is None else size, checksum, 0.0, payload

def frame_of(size):  # zeros, of which zstd makes one ten-thousandth
    writer = zstandard.ZstdCompressor(level=1).compressobj(size=size)
    return b"".join(writer.compress(bytes(1 << 24)) for _ in range(size >> 24)) + writer.flush()

def claiming(size):  # a frame whose header says so, and nothing after it
    return b"\\x28\\xb5\\x2f\\xfd" + bytes([0b11100000]) + struct.pack("<Q", size) + b"\\x01\\x00\\x00"

bomb = frame_of(3 * GB)
ten = pickle.PROTO + b"\\x05" + pickle.BINBYTES8 + struct.pack("<Q", 10 * GB) + b"x."
array = pickle.PROTO + b"\\x05" + pickle.BYTEARRAY8 + struct.pack("<Q", 10 * GB) + b"x."
rows = [
    row("zstd 3 GB", "pickle5+zstd", b"", bomb, 3 * GB),
    row("zstd 3 GB of vectors", "vectors1+zstd", b"", bomb, 3 * GB),
    row("zstd 3 GB of columns", "columns1+zstd", b"", bomb, 3 * GB),
    row("zstd that is longer than the row", "pickle5+zstd", b"", bomb, 100),
    row("frame that claims 10 GB", "pickle5+zstd", b"", claiming(10 * GB), 10 * GB),
    row("frame that claims 2**60", "columns1+zstd", b"", claiming(1 << 60), 1 << 60),
    row("pickle of 10 GB", "pickle5", ten, ten),
    row("bytearray of 10 GB", "pickle5", array, array),
    row("vectors", "vectors1", b"\\xff" * 64, b"\\xff" * 64),
    row("columns", "columns1", b"\\xff" * 64, b"\\xff" * 64),
]
with contextlib.closing(sqlite3.connect(path)) as connection, connection:
    connection.execute("PRAGMA wal_autocheckpoint=0")
    insert = "INSERT INTO entry (key, codec, kind, size, checksum, written_at, payload) VALUES (?, ?, ?, ?, ?, ?, ?)"
    connection.executemany(insert, rows)
print(len(rows))
"""

READ = """
import resource, sys
import numpy, ampstore
from ampstore.errors import AmpstoreError
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
with ampstore.Store(sys.argv[1]) as store:
    for key in list(store):
        try:
            store[key]
            print("read", key)
        except AmpstoreError as err:
            print("refused", key, type(err).__name__)
    damage = [damage.key for damage in store.verify()]
    print("verify", *sorted(key for key in damage if not key.startswith("sound")))
    for size in (1 << 28, 1 << 30):
        try:
            store["big"] = bytes(size)
        except (MemoryError, AmpstoreError) as err:
            print("refused", "big", type(err).__name__)
    store.pop("big", None)
    store["after"] = 1
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.fault("F10", "zstd bombs, frames and pickles that ask for 10 GB, with 0.5 to 1.5 GB of address space")
def test_bombs_are_refused_in_bounded_memory(fault, elsewhere):
    """Each is an error of its own entry; the sound ones are read, and `verify` names the bombs."""
    path, log = elsewhere / "a.db", Acknowledged(elsewhere / "log")
    with Store(path) as store:
        for number in range(5):
            with log.writing({f"sound{number}": [number] * 100}):
                store[f"sound{number}"] = [number] * 100
    made = run([sys.executable, "-c", BOMBS, path], 120)
    assert made.code == 0, made.errors
    with contextlib.closing(sqlite3.connect(path)) as connection:
        bombs = {key for (key,) in connection.execute("SELECT key FROM entry WHERE kind = 'bomb'")}
    for limit in [(500 + 250 * n) << 20 for n in range(fault.times(1, 5))]:
        ended = run([sys.executable, "-c", READ, path, limit], 120)
        case = f"with {limit >> 20} MB"
        if ended.hung:
            fault.hung(case)
            continue
        if ended.code:
            fault.wrong(f"{case}: {ended.errors[-1500:]}")
        lines = ended.output.splitlines()
        for key in bombs:
            fault.injected()
            if not any(line.startswith(f"refused {key} ") for line in lines):
                fault.wrong(f"{case}: {key!r} is not refused: {ended.output[-1500:]}")
        for number in range(5):
            if f"read sound{number}" not in lines:
                fault.lost(f"{case}: sound{number}: {ended.output[-1500:]}")
    with Store(path) as store:
        store.pop("after", None)
        for key in bombs:
            del store[key]
    fault.judged(judge(path, [elsewhere / "log"]))
