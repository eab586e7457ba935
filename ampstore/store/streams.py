"""Pickle streams of the entries that were read last, so that they need no second decompression."""

import contextlib
from collections import OrderedDict


class Streams:
    """Streams by key, with the checksums that tell whether they are still valid; bounded in bytes.

    Parameters
    ----------
    most : int
        Bytes to keep; entries over a quarter of it are not kept.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._size = 0
        self._kept: OrderedDict[str, tuple[bytes, bytes]] = OrderedDict()

    def get(self, key: str) -> tuple[bytes, bytes] | None:
        """Checksum and stream of an entry, if they are kept."""
        kept = self._kept.get(key)
        if kept:
            with contextlib.suppress(KeyError):  # another thread evicted it just now
                self._kept.move_to_end(key)
        return kept

    def put(self, key: str, checksum: bytes, stream: bytes) -> None:
        """Keep a stream; those that were used longest ago go."""
        if len(stream) > self.most // 4:
            return
        before = self._kept.pop(key, None)
        self._size += len(stream) - (len(before[1]) if before else 0)
        self._kept[key] = (checksum, stream)
        while self._size > self.most and self._kept:
            self._size -= len(self._kept.popitem(last=False)[1][1])
