"""Values to blobs and back: typed columns, vectors or a checked pickle, then zstd.

    value --vectors, columns, or pickle 5--> stream --zstd, where it pays--> payload
                                               └--SHA-256--> checksum <--CRC-32--┘

What Amp computes fits into vectors (small fingerprints, see `ampstore.codec.vectors`) or columns (all
else, see `ampstore.codec.columns`), which are smaller and faster than any pickle and hold no code at
all. Everything else is pickled under the rule of `safe`.

What a store keeps of a value is a `Blob`. Its checksum has two parts. The digest of the stream says
whether two values are the same, however they were compressed, and lets `verify` do without trust
in zstd. The CRC of the payload finds damage at every read, at a tenth of the cost of the digest.
`decode` trusts nothing in the blob: the CRC must fit, the frame must say the size that the row says,
the size is bounded, and a pickle may name allowed globals only.

Thread-safe: zstd contexts are one per thread (two threads in one context crash the process).
"""

import contextlib
from hashlib import sha256
from typing import NamedTuple
from zlib import crc32

from ampstore.codec import columns, vectors
from ampstore.codec.compress import compress, decompress
from ampstore.codec.kind import summarise
from ampstore.codec.legacy import dump_legacy, ends_whole, load_legacy
from ampstore.codec.safe import ANYTHING, LARGE, Allowed, Rule, no_garbage_collection
from ampstore.codec.same import same
from ampstore.errors import CorruptEntryError, EntryTooLargeError

__all__ = [
    "ANYTHING",
    "Allowed",
    "Blob",
    "Codec",
    "Rule",
    "dump_legacy",
    "ends_whole",
    "load_legacy",
    "same",
    "summarise",
]

PICKLE = "pickle5"
COLUMNS = "columns1"
VECTORS = "vectors1"
ZSTD = "+zstd"
_PLAIN = frozenset((PICKLE, COLUMNS, VECTORS))
_COMPRESSED = frozenset(name + ZSTD for name in _PLAIN)
LARGEST = 4 << 30
"""Largest stream of one value, bytes: a row that claims more is damaged or hostile."""

SMALLEST_TO_COMPRESS = 128
SMALL = 8 << 10  # below this, level 1 compresses as well as level 3 and notices in half the time that it does not
LEAST_GAIN = 8  # compression pays if it saves one byte in so many: reading plain bytes is faster
HOPELESS = 2
PROBE = 256
MOST_KINDS = 1000
DEFAULT_LEVEL = 3
DIGEST = 16


class Blob(NamedTuple):
    """What a store keeps of one value.

    Attributes
    ----------
    codec : str
        How `payload` was made: "pickle5", "columns1" or "vectors1", and "+zstd" if it is compressed.
    kind : str
        What the value is, for people: "list of 37 (symbol, float[20])".
    size : int
        Length of the stream, bytes.
    checksum : bytes
        first 16 bytes of the SHA-256 digest of the stream, 4 bytes CRC-32 of the payload (big-endian).
    payload : bytes
        The stream, compressed if `codec` says so.
    """

    codec: str
    kind: str
    size: int
    checksum: bytes
    payload: bytes


class Codec:
    """Turns values into blobs and back under one rule of what may be read and written.

    Parameters
    ----------
    allow : iterable of str or "*", default ()
        Packages, modules or "module.name" that values may name besides the safe ones; "*" for all.
    level : int, default 3
        zstd level.
    """

    def __init__(self, allow: Allowed = (), level: int = DEFAULT_LEVEL) -> None:
        self.rule = Rule(allow)
        self.level = level
        self._failures: dict[str, int] = {}

    def encode(self, value: object) -> Blob:
        """Blob of a value.

        Raises
        ------
        EncodeError
            If the value cannot be pickled.
        ForbiddenGlobalError
            If it could not be read back under this rule.
        EntryTooLargeError
            If its stream is longer than `LARGEST`.
        """
        if (stream := vectors.encode(value)) is not None:
            return self._pack(VECTORS, vectors.kind(value), stream)
        kind = summarise(value)
        if (stream := columns.encode(value)) is not None:
            return self._pack(COLUMNS, kind, stream)
        return self._pack(PICKLE, kind, self.rule.dumps(value))

    def load_legacy(self, key: str, data: bytes) -> object:
        """Value of one legacy file under the same rule; see `ampstore.codec.load_legacy`."""
        return load_legacy(key, data, self.rule)

    def _pack(self, codec: str, kind: str, stream: bytes) -> Blob:
        size = len(stream)
        if size > LARGEST:
            raise EntryTooLargeError(size, LARGEST)
        if size <= SMALLEST_TO_COMPRESS:
            return _blob(codec, kind, stream, stream)
        # After some values of a kind that do not compress, one in PROBE is tried.
        failures = self._failures.get(kind, 0)
        if failures >= HOPELESS and failures % PROBE:
            self._failures[kind] = failures + 1
            return _blob(codec, kind, stream, stream)
        payload = compress(stream, self.level if size > SMALL else min(self.level, 1))
        if len(payload) < size - size // LEAST_GAIN:
            self._failures.pop(kind, None)
            return _blob(codec + ZSTD, kind, stream, payload)
        self._count_failure(kind, failures)
        return _blob(codec, kind, stream, stream)

    def _count_failure(self, kind: str, failures: int) -> None:
        self._failures[kind] = failures + 1
        if len(self._failures) > MOST_KINDS:
            self._failures.clear()

    def unpack(self, key: str, codec: str, size: int, checksum: bytes, payload: bytes) -> bytes:
        """Stream of a blob; `key` is for the error.

        Raises
        ------
        CorruptEntryError
            If the bytes are not those that were written.
        """
        if type(payload) is not bytes or checksum[DIGEST:] != crc32(payload).to_bytes(4):
            raise CorruptEntryError(key, "its bytes do not have the checksum that was stored with them")
        if codec in _PLAIN:
            if len(payload) == size:
                return payload
            raise CorruptEntryError(key, f"it has {len(payload)} bytes, {size} were written")
        if codec not in _COMPRESSED:
            raise CorruptEntryError(key, f"unknown codec {codec!r}; a newer ampstore may know it")
        try:
            return decompress(payload, size, LARGEST)
        except ValueError as err:
            raise CorruptEntryError(key, str(err)) from err

    def value(self, key: str, codec: str, stream: bytes) -> object:
        """Value of a stream, a fresh object at every call.

        Raises
        ------
        CorruptEntryError, ForbiddenGlobalError
            As `decode`.
        """
        if codec.startswith(PICKLE):
            return self.rule.loads(key, stream)
        try:
            if codec.startswith(VECTORS):
                return vectors.decode(stream)
            with no_garbage_collection() if len(stream) > LARGE else contextlib.nullcontext():
                return columns.decode(stream)
        except (ValueError, MemoryError) as err:
            raise CorruptEntryError(key, f"its {codec.removesuffix(ZSTD)} stream is damaged: {err}") from err

    def check(self, key: str, codec: str, size: int, checksum: bytes, payload: bytes) -> bytes:
        """As `unpack`, and compare the digest of the stream; for `verify`."""
        stream = self.unpack(key, codec, size, checksum, payload)
        if checksum != _checksum(stream, payload):
            raise CorruptEntryError(key, "its stream does not have the digest that was stored with it")
        return stream

    def decode(self, key: str, codec: str, size: int, checksum: bytes, payload: bytes) -> object:
        """Value of a blob, a fresh object at every call; `key` is for the error.

        Raises
        ------
        CorruptEntryError
            If the bytes are not those that were written.
        ForbiddenGlobalError
            If the stream names a global outside the rule.
        """
        return self.value(key, codec, self.unpack(key, codec, size, checksum, payload))


def _blob(codec: str, kind: str, stream: bytes, payload: bytes) -> Blob:
    return Blob(codec, kind, len(stream), _checksum(stream, payload), payload)


def _checksum(stream: bytes, payload: bytes) -> bytes:
    # SHA-256 has instructions of its own on most processors: 2.5 times as fast as BLAKE2b there.
    return sha256(stream).digest()[:DIGEST] + crc32(payload).to_bytes(4)
