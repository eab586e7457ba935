"""Legacy entries decoded and encoded again, in this process or in several, in order."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from ampstore.codec import Allowed, Blob, Codec, same
from ampstore.codec.garbage import no_garbage_collection
from ampstore.codec.legacy import load_legacy
from ampstore.errors import AmpstoreError, DamagedArchiveError, StoreError
from ampstore.legacy import Container, Stamp

CHUNK_ENTRIES = 64
CHUNK_BYTES = 4 << 20


class Source(NamedTuple):
    """One legacy entry on its way; the bytes of a loose file are read where they are decoded."""

    name: str
    where: str
    size: int
    mtime: float
    data: bytes | None
    doubt: str = ""


class Encoded(NamedTuple):
    """One legacy entry, decoded and encoded again, or the reason why not."""

    name: str
    where: str
    mtime: float
    blob: Blob | None
    stamp: Stamp | None
    reason: str


def _chunks(sources: Iterator[Source]) -> Iterator[list[Source]]:
    chunk, size = list[Source](), 0
    for source in sources:
        chunk.append(source)
        size += source.size
        if len(chunk) >= CHUNK_ENTRIES or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def encoded(container: Container, sources: Iterator[Source], codec: Codec, jobs: int) -> Iterator[Sequence[Encoded]]:
    """Chunks of sources, decoded and encoded in this process or in `jobs` others, in order."""
    chunks = _chunks(sources)
    if jobs <= 1:
        for chunk in chunks:
            yield _encode_all(container, _with_data(container, chunk), codec)
        return
    import multiprocessing

    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:

        def submit(chunk: list[Source]) -> "Future[list[Encoded]]":
            return pool.submit(_encode_chunk, str(container.directory), _with_data(container, chunk), *codec.options)

        waiting = [submit(chunk) for chunk in islice(chunks, 2 * jobs)]
        while waiting:
            try:
                yield waiting.pop(0).result()
                waiting += [submit(chunk) for chunk in islice(chunks, 1)]
            except BrokenProcessPool as err:
                detail = "one of the processes that read it was killed; run the same command again with --jobs 1"
                raise StoreError(str(container.directory), detail) from err


def _with_data(container: Container, chunk: list[Source]) -> list[Source]:
    """Archived bytes go along: the archive is unpacked here, once."""
    return [_from_archive(container, source) if source.where == "archive" else source for source in chunk]


def _from_archive(container: Container, source: Source) -> Source:
    try:
        return source._replace(data=container.archive.read(source.name))
    except DamagedArchiveError as err:
        return source._replace(doubt=err.reason)


def _encode_chunk(
    directory: str, chunk: list[Source], allow: Allowed, level: int, codecs: tuple[str, ...]
) -> list[Encoded]:
    """In another process."""
    return _encode_all(Container(Path(directory)), chunk, Codec(allow, level, codecs))


def _encode_all(container: Container, chunk: list[Source], codec: Codec) -> list[Encoded]:
    with no_garbage_collection():  # a twelfth of the time: what is made here goes by itself
        return [_encode(container, source, codec) for source in chunk]


def _encode(container: Container, source: Source, codec: Codec) -> Encoded:
    """Decode a legacy entry, encode it, and make sure that it comes back the same."""
    made = Encoded(source.name, source.where, source.mtime, None, None, "")
    try:
        if source.where == "loose":
            found = container.loose.load(source.name, codec.rule, settled=True)
            if found is None:
                return made._replace(reason="it went away meanwhile; run the same command again")
            value, stamp = found
            made = made._replace(stamp=stamp)
        elif source.doubt:
            return made._replace(reason=source.doubt)
        else:
            value = load_legacy(source.name, source.data or b"", codec.rule)
        blob = codec.encode(value)
        if not same(value, codec.decode(source.name, blob.codec, blob.size, blob.checksum, blob.payload)):
            return made._replace(reason="its value does not survive encoding")
        return made._replace(blob=blob)
    except AmpstoreError as err:
        return made._replace(reason=getattr(err, "reason", "") or str(err))
