"""zstd dictionaries: what the values of one kind have in common, so that each need not say it again.

A dictionary is known by the id that zstd keeps in its header and in every frame made with it. Ours is
the CRC-32 of the other bytes. So a damaged dictionary is found before it is used, a frame tells which
one it needs, the same dictionary has the same id in every store, and no id is ever used again for
another one.

Prepared dictionaries are kept per process, contexts per thread (two threads in one context crash the
process); of both those that were used last.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any
from zlib import crc32

import zstandard

MAGIC = b"\x37\xa4\x30\xec"
SMALLEST_ID, LARGEST_ID = 1 << 15, (1 << 31) - 1  # the others are kept for a registrar
LARGEST = 1 << 20
"""Bytes of a dictionary: one that is longer is not ours."""

MOST_PREPARED = 32
MOST_CONTEXTS = 8


def identify(data: bytes) -> int:
    """Id that a dictionary of these bytes has to have; those of its id do not count."""
    return SMALLEST_ID + crc32(data[8:], crc32(data[:4])) % (LARGEST_ID - SMALLEST_ID)


class Dictionary:
    """One dictionary, ready for use.

    Attributes
    ----------
    number : int
        Its id.
    data : bytes

    Raises
    ------
    ValueError
        If the bytes are not those that `train` gave.
    """

    def __init__(self, data: bytes) -> None:
        sound = isinstance(data, bytes) and data[:4] == MAGIC and 8 < len(data) <= LARGEST
        if not sound or int.from_bytes(data[4:8], "little") != identify(data):
            raise ValueError("its bytes are not those that were written")
        self.data = data
        self.number = identify(data)
        self._prepared = zstandard.ZstdCompressionDict(data, dict_type=zstandard.DICT_TYPE_FULLDICT)

    def decompressor(self) -> zstandard.ZstdDecompressor:
        """Context of this thread."""
        made: zstandard.ZstdDecompressor = _contexts.get((self, None), self._make_decompressor)
        return made

    def compress(self, data: bytes, level: int) -> bytes:
        """One zstd frame that states its content size and the id of this dictionary."""
        frame: bytes = _contexts.get((self, level), lambda: self._make_compressor(level)).compress(data)
        return frame

    def _make_decompressor(self) -> zstandard.ZstdDecompressor:
        return zstandard.ZstdDecompressor(dict_data=self._prepared)

    def _make_compressor(self, level: int) -> zstandard.ZstdCompressor:
        return zstandard.ZstdCompressor(level=level, dict_data=self._prepared, write_content_size=True)


def train(samples: Sequence[bytes], size: int) -> Dictionary | None:
    """Dictionary of at most `size` bytes for data like the samples; None if they have nothing in common."""
    try:
        data = zstandard.train_dictionary(size, list(samples), k=256, d=8).as_bytes()
        return Dictionary(data[:4] + identify(data).to_bytes(4, "little") + data[8:])
    except (zstandard.ZstdError, ValueError):
        return None


class _Contexts(threading.local):
    """zstd contexts of one thread."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Dictionary, int | None], Any] = OrderedDict()

    def get(self, key: tuple[Dictionary, int | None], make: Callable[[], Any]) -> Any:
        found = self._kept.pop(key, None) or make()
        self._kept[key] = found
        if len(self._kept) > MOST_CONTEXTS:
            self._kept.popitem(last=False)
        return found


_contexts = _Contexts()
_owners = count()
_prepared: OrderedDict[tuple[int, int], Dictionary] = OrderedDict()
_lock = threading.Lock()


class Dictionaries:
    """The dictionaries of one store.

    Parameters
    ----------
    source : callable
        Id -> bytes of the dictionary, None if the store has none of that id.
    """

    def __init__(self, source: Callable[[int], bytes | None]) -> None:
        self._source = source
        self._owner = next(_owners)

    def get(self, number: int) -> Dictionary | None:
        """Dictionary of an id, None if it is not there.

        Raises
        ------
        ValueError
            If it is damaged.
        """
        key = (self._owner, number)
        with _lock:
            if found := _prepared.get(key):
                _prepared.move_to_end(key)
                return found
        data = self._source(number)
        if data is None:
            return None
        found = Dictionary(data)
        if found.number != number:
            raise ValueError(f"it is the dictionary {found.number}")
        with _lock:
            _prepared[key] = found
            while len(_prepared) > MOST_PREPARED:
                _prepared.popitem(last=False)
        return found
