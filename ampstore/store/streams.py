"""Streams of the entries that were read last, so that they need no second decompression."""

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
        self._kept: OrderedDict[str, tuple[bytes, str, bytes]] = OrderedDict()

    def get(self, key: str) -> tuple[bytes, str, bytes] | None:
        """Checksum, codec and stream of an entry, if they are kept."""
        kept = self._kept.get(key)
        if kept:
            with contextlib.suppress(KeyError):  # another thread evicted it just now
                self._kept.move_to_end(key)
        return kept

    def put(self, key: str, checksum: bytes, codec: str, stream: bytes) -> None:
        """Keep a stream; those that were used longest ago go."""
        if len(stream) > self.most // 4:
            return
        before = self._kept.pop(key, None)
        self._size += len(stream) - (len(before[2]) if before else 0)
        self._kept[key] = (checksum, codec, stream)
        while self._size > self.most and self._kept:
            self._size -= len(self._kept.popitem(last=False)[1][2])
