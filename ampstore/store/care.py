"""Looking after a store: sizes, damage, verified copies."""

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from ampstore.backend import GAPS, Row, SQLite, Trained
from ampstore.codec import PICKLE, Codec
from ampstore.codec.dictionaries import Dictionary
from ampstore.codec.globals import globals_of
from ampstore.durable import sync
from ampstore.errors import CodecError, CorruptEntryError, MissingDictionaryError, MissingStoreError
from ampstore.store.opening import open_backend

if TYPE_CHECKING:
    from ampstore.backend import Backend, Served


class Damage(NamedTuple):
    """One damaged thing in a store.

    Attributes
    ----------
    key : str
        The entry, "" if it is the file as a whole.
    reason : str
        What is wrong.
    """

    key: str
    reason: str

    @property
    def remedy(self) -> str:
        """What can be done about it."""
        if self.key:
            return "set it again, or get it from a copy: `ampstore salvage PATH NEW --second COPY`"
        return "restore a backup, or `ampstore salvage PATH NEW` gets out what is whole"


class Stats(NamedTuple):
    """Sizes of a store.

    Attributes
    ----------
    entries : int
    size : int
        Bytes of all values before compression.
    stored : int
        Bytes of all payloads.
    disk : int
        Bytes of the file and its WAL.
    codecs : dict of str to int
        Entries by codec.
    """

    entries: int
    size: int
    stored: int
    disk: int
    codecs: dict[str, int]


def stats(backend: "Backend") -> Stats:
    """Number of entries and their sizes."""
    kinds = backend.kinds()
    return Stats(
        entries=sum(entries for _, entries, _, _ in kinds),
        size=sum(size for _, _, size, _ in kinds),
        stored=sum(stored for _, _, _, stored in kinds),
        disk=backend.stored_bytes(),
        codecs={codec: entries for codec, entries, _, _ in kinds},
    )


def verify(backend: "Backend", codec: Codec) -> Iterator[Damage]:
    """Everything that is damaged: pages, dictionaries, checksums, streams."""
    for reason in backend.integrity():
        yield Damage("", reason)
    try:
        yield from _damaged_dictionaries(backend)
        for row in backend.scan():
            try:
                codec.value(row[1], row[2], codec.check(*row[1:]))
            except CodecError as err:
                if isinstance(err, MissingDictionaryError) and backend.fetch(row[1]) != row[2:]:
                    continue  # another process compacted the store meanwhile
                yield Damage(row[1], err.reason if isinstance(err, CorruptEntryError) else str(err))
    except OSError as err:
        yield Damage("", str(err))


def globals_in(backend: "Backend", codec: Codec) -> Counter[str]:
    """How many pickled entries refer to each "module.name"; imports none of it, passes over damaged entries."""
    found = Counter[str]()
    for row in backend.scan():
        if row[2].startswith(PICKLE):
            with contextlib.suppress(CodecError):
                found.update({".".join(name) for name in globals_of(codec.unpack(*row[1:]))})
    return found


def verify_payloads(backend: "Backend", codec: Codec) -> Iterator[Damage]:
    """Damaged pages and payloads. Makes no values, so it needs no permission for what they name."""
    for reason in backend.integrity():
        yield Damage("", reason)
    for reason in _damaged_payloads(backend, codec):
        yield Damage("", reason)


def _damaged_dictionaries(backend: "Backend") -> Iterator[Damage]:
    for number, *_ in backend.dictionaries():
        try:
            if data := backend.dictionary(number):
                Dictionary(data)
        except ValueError as err:
            yield Damage("", f"dictionary {number} is damaged: {err}; entries that need it cannot be read")


def backup(backend: "Backend", codec: Codec, target: Path) -> Path:
    """Copy a store as it is now into a new file, verified, while others go on writing.

    Raises
    ------
    FileExistsError
        If the name is taken.
    """
    if not target.parent.is_dir():
        raise MissingStoreError(str(target), f"there is no directory {target.parent}; create it first")
    if target.exists():
        raise FileExistsError(f"{target} exists; a backup never overwrites, choose another name")
    partial = target.with_name(f".{target.name[:200]}.{os.urandom(8).hex()}.new")
    try:
        backend.copy_to(partial) if isinstance(backend, SQLite) else _copy(cast("Served", backend), partial)
        with contextlib.closing(open_backend(partial, "w", backend.timeout, "normal")) as copy:
            # Checksums, not pickles: a backup keeps what this handle may not read.
            damage = [*copy.integrity(), *_damaged_payloads(copy, codec.reading_from(copy.dictionary))]
            if damage and not list(_damaged_payloads(backend, codec)):
                raise CorruptEntryError(str(target), f"the copy is damaged: {damage[0]}")
        os.link(partial, target)
        sync(target.parent)
    finally:
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{partial}{suffix}")
    return target


def _copy(backend: "Served", target: Path) -> None:
    """Write one state of a store on a server into a new file."""
    with contextlib.closing(open_backend(target, "c", backend.timeout, "normal")) as copy, backend.snapshot():
        last, after = backend.last_id(), 0
        while chunk := backend.entries(after, last):
            after = chunk[-1][0]
            copy.put_rows([Row(*row[1:]) for row in chunk])
        for name, value in backend.info().items():
            if name != GAPS:  # the copy has ids of its own
                copy.info_put(name, value)
        for number, kind, trained_at, _ in backend.dictionaries():
            copy.recode([], [Trained(number, kind, trained_at, backend.dictionary(number) or b"")])


def _damaged_payloads(backend: "Backend", codec: Codec) -> Iterator[str]:
    for row in backend.scan():
        try:
            codec.check(*row[1:])
        except CorruptEntryError as err:
            yield str(err)
