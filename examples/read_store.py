"""A store, read from docs/format.md alone: sqlite3 and zstandard, no line of ampstore.

    python read_store.py results.db          the keys
    python read_store.py results.db KEY      one value

For stores that you trust: a pickle from elsewhere can run code, which ampstore refuses and this does not.
"""

import pickle
import re
import sqlite3
import sys
from hashlib import sha256
from zlib import crc32

import zstandard

NAME = re.compile(r"([a-z][a-z0-9_.-]*)(\+planes8)?(\+zstd)?(?::(\d+))?")


def stream_of(database, codec, size, checksum, payload):
    """Name and stream of one row, checked."""
    base, planes, zstd, dictionary = NAME.fullmatch(codec).groups()
    if crc32(payload) != int.from_bytes(checksum[16:], "big"):
        raise ValueError("the payload is damaged")
    if zstd:
        prepared = None
        if dictionary:
            (data,) = database.execute("select data from dictionary where id = ?", (int(dictionary),)).fetchone()
            prepared = zstandard.ZstdCompressionDict(data)
        payload = zstandard.ZstdDecompressor(dict_data=prepared).decompress(payload, max_output_size=size)
    if planes:
        start, count = size % 8, size // 8
        rows = [payload[start + plane * count :][:count] for plane in reversed(range(8))]
        payload = payload[:start] + bytes(byte for number in zip(*rows, strict=True) for byte in number)
    if len(payload) != size or sha256(payload).digest()[:16] != checksum[:16]:
        raise ValueError("the stream is not the one that was written")
    return base, payload


def value_of(base, stream):
    """Value of a stream."""
    if base == "pickle5":
        return pickle.loads(stream)
    import read_columns

    return {"columns1": read_columns.loads, "vectors1": read_columns.loads_vectors}[base](stream)


def read(path, key):
    """Value of one entry."""
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        row = database.execute("select codec, size, checksum, payload from entry where key = ?", (key,)).fetchone()
        if row is None:
            raise KeyError(key)
        return value_of(*stream_of(database, *row))
    finally:
        database.close()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        print(read(sys.argv[1], sys.argv[2]))
    else:
        print(*(key for (key,) in sqlite3.connect(sys.argv[1]).execute("select key from entry order by id")), sep="\n")
