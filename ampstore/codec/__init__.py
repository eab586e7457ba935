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

`recoded` makes another payload of the same stream: with a dictionary, byte planes, another level (see
`ampstore.codec.recoding`). Codecs of other packages come from `ampstore.codec.plugins`.

Thread-safe: zstd contexts are one per thread (two threads in one context crash the process).
"""

import contextlib
import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from ampstore.codec import columns, plugins, vectors
from ampstore.codec.allowed import ANYTHING, Allowed, checked
from ampstore.codec.compress import compress, decompress
from ampstore.codec.dictionaries import Dictionaries, Dictionary
from ampstore.codec.garbage import LARGE, no_garbage_collection
from ampstore.codec.kind import summarise
from ampstore.codec.naming import BUILTIN, COLUMNS, PICKLE, VECTORS, ZSTD, parse
from ampstore.codec.recoding import Recipe, from_planes
from ampstore.codec.same import same
from ampstore.errors import (
    CorruptEntryError,
    EncodeError,
    EntryTooLargeError,
    MissingDictionaryError,
    UnknownCodecError,
)

if TYPE_CHECKING:
    import hashlib

    from ampstore.codec.safe import Rule

__all__ = [
    "ANYTHING",
    "PICKLE",
    "Allowed",
    "Blob",
    "Codec",
    "intact",
    "same",
    "summarise",
]

_PLAIN = BUILTIN
_COMPRESSED = frozenset(name + ZSTD for name in _PLAIN)
_BASES = {name: name.removesuffix(ZSTD) for name in _PLAIN | _COMPRESSED}
LARGEST = 4 << 30
"""Largest stream of one value, bytes: a row that claims more is damaged or hostile."""

SMALLEST_TO_COMPRESS = 128
SMALL = 8 << 10  # below this, level 1 compresses as well as level 3 and notices in half the time that it does not
LEAST_GAIN = 8  # compression pays if it saves one byte in so many: reading plain bytes is faster
HOPELESS = 2
PROBE = 256
PROBE_MISFIT = 128
MOST_KINDS = 1000
DEFAULT_LEVEL = 3
DIGEST = 16


class Blob(NamedTuple):
    """What a store keeps of one value.

    Attributes
    ----------
    codec : str
        How `payload` was made: "pickle5", "columns1" or "vectors1", and "+zstd" if it is compressed; see
        `ampstore.codec.naming`.
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
    codecs : iterable of str, default ()
        Codecs of other packages to be tried first when a value is encoded; see `ampstore.codec.plugins`.
    dictionaries : callable, optional
        Id -> bytes of a zstd dictionary, None if there is none: where payloads come from.

    Raises
    ------
    UnknownCodecError
        If one of `codecs` is not installed.
    """

    def __init__(
        self,
        allow: Allowed = (),
        level: int = DEFAULT_LEVEL,
        codecs: Iterable[str] = (),
        *,
        dictionaries: Callable[[int], bytes | None] = lambda _: None,
    ) -> None:
        self.allow = checked(allow)
        self.level = level
        self.codecs = tuple(codecs)
        self._plugins = [(name, _plugin(None, name)) for name in self.codecs]
        self._dictionaries = Dictionaries(dictionaries)
        self._failures: dict[str, int] = {}
        self._misfits: dict[str, int] = {}

    @functools.cached_property
    def rule(self) -> "Rule":
        """What pickles may name. Made by the first that is read or written: `safe` takes 5 ms to import."""
        from ampstore.codec.safe import Rule

        return Rule(self.allow)

    @property
    def options(self) -> tuple[Allowed, int, tuple[str, ...]]:
        """What another process needs to make the same codec, without the dictionaries: `Codec(*options)`."""
        return self.allow, self.level, self.codecs

    def reading_from(self, dictionaries: Callable[[int], bytes | None]) -> "Codec":
        """As this codec, for payloads that come from another place."""
        return Codec(*self.options, dictionaries=dictionaries)

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
        for name, plugin in self._plugins:
            if (stream := _encoded(name, plugin, value)) is not None:
                return self._pack(name, summarise(value), stream)
        if (stream := vectors.encode(value)) is not None:
            return self._pack(VECTORS, vectors.kind(value), stream)
        kind = summarise(value)
        if columns.gains(value) and (stream := self._columns(kind, value)) is not None:
            return self._pack(COLUMNS, kind, stream)
        return self._pack(PICKLE, kind, self.rule.dumps(value))

    def _columns(self, kind: str, value: object) -> bytes | None:
        """Columns of a value; after some of its kind that did not fit, one in PROBE_MISFIT is tried."""
        kind = kind.translate(_NO_DIGITS)
        misfits = self._misfits.get(kind, 0)
        if misfits >= HOPELESS and misfits % PROBE_MISFIT:
            self._misfits[kind] = misfits + 1
            return None
        stream = columns.encode(value, always=True)
        if stream is None:
            self._misfits[kind] = misfits + 1
            if len(self._misfits) > MOST_KINDS:
                self._misfits.clear()
        elif misfits:
            self._misfits.pop(kind, None)
        return stream

    def load_legacy(self, key: str, data: bytes) -> object:
        """Value of one legacy file under the same rule; see `ampstore.codec.legacy.load_legacy`."""
        from ampstore.codec.legacy import load_legacy  # a program that meets no legacy files starts without it

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
        try:
            if codec in _COMPRESSED:
                return decompress(payload, size, LARGEST)
            return self._unpack_other(key, codec, size, payload)
        except CorruptEntryError:
            raise
        except ValueError as err:
            raise CorruptEntryError(key, str(err)) from err

    def _unpack_other(self, key: str, codec: str, size: int, payload: bytes) -> bytes:
        """Stream of a payload with a dictionary, byte planes, or a codec of another package."""
        name = parse(codec)
        if name.dictionary:
            payload = decompress(payload, size, LARGEST, self._dictionary(key, name.dictionary).decompressor())
        elif name.zstd:
            payload = decompress(payload, size, LARGEST)
        if len(payload) != size:
            raise ValueError(f"it has {len(payload)} bytes, {size} were written")
        return from_planes(payload) if name.planes else payload

    def _dictionary(self, key: str, number: int) -> Dictionary:
        try:
            found = self._dictionaries.get(number)
        except ValueError as err:
            raise CorruptEntryError(key, f"its dictionary {number} is damaged: {err}") from err
        if found is None:
            raise MissingDictionaryError(key, number)
        return found

    def recoded(
        self, key: str, codec: str, size: int, checksum: bytes, payload: bytes, recipe: Recipe
    ) -> tuple[str, bytes, bytes]:
        """codec, checksum and payload of the same stream by another recipe; as they were if that gains nothing.

        Raises
        ------
        CorruptEntryError
            If the bytes are not those that were written, by the digest of the stream.
        """
        stream = self.check(key, codec, size, checksum, payload)
        name, packed = recipe.payload(parse(codec).base, stream)
        if len(packed) >= len(payload):
            return codec, checksum, payload
        return str(name), _checksum(stream, packed), packed

    def without_dictionary(
        self, key: str, codec: str, size: int, checksum: bytes, payload: bytes
    ) -> tuple[str, bytes, bytes]:
        """codec, checksum and payload as another store can have them: one that needs no dictionary.

        Raises
        ------
        CorruptEntryError
            As `recoded`.
        """
        if ":" not in codec:
            return codec, checksum, payload
        stream = self.check(key, codec, size, checksum, payload)
        name = parse(codec)
        other, packed = Recipe(self.level, name.planes).payload(name.base, stream)
        return str(other), _checksum(stream, packed), packed

    def value(self, key: str, codec: str, stream: bytes) -> object:
        """Value of a stream, a fresh object at every call.

        Raises
        ------
        CorruptEntryError, ForbiddenGlobalError, UnknownCodecError
            As `decode`.
        """
        base = _BASES.get(codec) or _base(key, codec)
        if base == PICKLE:
            return self.rule.loads(key, stream)
        try:
            if base == VECTORS:
                return vectors.decode(stream)
            if base != COLUMNS:
                return _decoded(key, base, stream)
            with no_garbage_collection() if len(stream) > LARGE else contextlib.nullcontext():
                return columns.decode(stream)
        except (ValueError, MemoryError) as err:
            raise CorruptEntryError(key, f"its {base} stream is damaged: {err}") from err

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
        UnknownCodecError
            If it was written by a codec of another package that is not installed.
        """
        # What `unpack` and `value` do, in fewer calls for what most small rows are: 4 us of 28.
        if (
            codec in _PLAIN
            and type(payload) is bytes
            and len(payload) == size
            and checksum[DIGEST:] == crc32(payload).to_bytes(4)
        ):
            if codec == PICKLE:
                return self.rule.loads(key, payload)
            return self.value(key, codec, payload)
        return self.value(key, codec, self.unpack(key, codec, size, checksum, payload))


def intact(checksum: bytes, payload: bytes) -> bool:
    """Whether a payload has the bytes that were written; makes no stream of it."""
    return type(payload) is bytes and checksum[DIGEST:] == crc32(payload).to_bytes(4)


def _blob(codec: str, kind: str, stream: bytes, payload: bytes) -> Blob:
    return Blob(codec, kind, len(stream), _checksum(stream, payload), payload)


_NO_DIGITS = str.maketrans("", "", "0123456789")


def _base(key: str, codec: str) -> str:
    try:
        return parse(codec).base
    except ValueError as err:
        raise CorruptEntryError(key, str(err)) from err


def _plugin(key: str | None, name: str) -> plugins.StreamCodec:
    try:
        return plugins.load(name)
    except LookupError as err:
        raise UnknownCodecError(key, name, str(err.args[0])) from err


def _encoded(name: str, plugin: plugins.StreamCodec, value: object) -> bytes | None:
    try:
        stream = plugin.encode(value)
    except Exception as err:
        raise EncodeError(type(value).__qualname__, f"codec {name}: {type(err).__name__}: {err}") from err
    if stream is not None and type(stream) is not bytes:
        raise EncodeError(type(value).__qualname__, f"codec {name} gave {type(stream).__name__}, not bytes")
    return stream


def _decoded(key: str, name: str, stream: bytes) -> object:
    plugin = _plugin(key, name)
    try:
        return plugin.decode(stream)
    except Exception as err:
        raise CorruptEntryError(key, f"its {name} stream is damaged: {type(err).__name__}: {err}") from err


def _checksum(stream: bytes, payload: bytes) -> bytes:
    # SHA-256 has instructions of its own on most processors: 2.5 times as fast as BLAKE2b there.
    return _sha256()(stream).digest()[:DIGEST] + crc32(payload).to_bytes(4)


@functools.cache
def _sha256() -> "Callable[[bytes], hashlib._Hash]":
    from hashlib import sha256  # loads OpenSSL, 3 ms, and reading needs none of it

    return sha256
