"""zstd, one context per thread, bounded on the way back.

A frame states its content size, and python-zstandard allocates what the frame states, whatever
`max_output_size` says. So the frame is asked first and believed only if the row agrees.
"""

import threading

import zstandard


class _Contexts(threading.local):
    def __init__(self) -> None:
        self.decompressor = zstandard.ZstdDecompressor()
        self.compressors: dict[int, zstandard.ZstdCompressor] = {}


_contexts = _Contexts()


def compress(data: bytes, level: int) -> bytes:
    """One zstd frame that states its content size."""
    compressor = _contexts.compressors.get(level)
    if compressor is None:
        compressor = _contexts.compressors[level] = zstandard.ZstdCompressor(level=level, write_content_size=True)
    return compressor.compress(data)


def decompress(frame: bytes, size: int, largest: int, decompressor: zstandard.ZstdDecompressor | None = None) -> bytes:
    """Content of a frame; `decompressor` is for frames made with a dictionary.

    Raises
    ------
    ValueError
        If the frame is damaged, or does not hold exactly `size` <= `largest` bytes.
    """
    try:
        stated = zstandard.frame_content_size(frame)
        if stated != size or not 0 <= size <= largest:
            raise ValueError(f"the frame holds {stated} bytes, {size} were written")
        data = (decompressor or _contexts.decompressor).decompress(frame, max_output_size=size)
    except zstandard.ZstdError as err:
        raise ValueError(f"zstd: {err}") from err
    except MemoryError as err:
        raise ValueError(f"not enough memory for {size:,} bytes") from err
    if len(data) != size:
        raise ValueError(f"the frame held {len(data)} bytes, {size} were written")
    return data
