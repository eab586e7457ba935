"""Where the entries of a damaged database may be: a store's file, a directory of loose files, an archive."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from ampstore.backend import Row
from ampstore.backend.cells import BrokenError
from ampstore.backend.pages import Pages
from ampstore.backend.rows import OLDER, Entry, Image, Survey
from ampstore.codec import Codec, plugins
from ampstore.codec.naming import BUILTIN, parse
from ampstore.errors import AmpstoreError, CodecError
from ampstore.legacy import Loose
from ampstore.legacy.rescue import Rescue, Rescued

_DIGEST = 16


class Version(NamedTuple):
    """What one place has of one key.

    Attributes
    ----------
    row : Row or None
        None if it is damaged.
    reason : str
        Why it is.
    digest : bytes or None
        Digest of the value that was there, where that is still known.
    doubt : str
        Why it may not be the value that counts.
    restored : bool
        Whether it is not the first image of it.
    """

    row: Row | None
    reason: str = ""
    digest: bytes | None = None
    doubt: str = ""
    restored: bool = False


class Copy(Protocol):
    """One place."""

    complete: bool
    damage: list[str]

    def keys(self) -> Iterator[str]:
        """Every key that the place has or had."""

    def version(self, key: str) -> Version | None:
        """What it has of a key, None if it has nothing."""


def _unknown(codec: str) -> str:
    """Doubt about a row whose codec nobody knows here: no checksum covers the name."""
    base = parse(codec).base
    if base in BUILTIN:
        return ""
    try:
        plugins.load(base)
    except LookupError:
        return f"no installed package provides its codec {base!r}; the name may be damaged"
    return ""


class StoreCopy:
    """A store's file, read page by page.

    Parameters
    ----------
    pages : Pages
    codec : Codec
    """

    def __init__(self, pages: Pages, codec: Codec) -> None:
        self.survey = Survey(pages)
        self.complete = self.survey.complete
        self.damage = self.survey.damage
        self._codec = codec.reading_from(self.survey.dictionaries.get)
        self._entries = {entry.key: entry for entry in self.survey.entries()}

    def keys(self) -> Iterator[str]:
        """Every key that the file has or had."""
        return iter(self._entries)

    def version(self, key: str) -> Version | None:
        """The newest whole image of a row."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        digest, reason, known = None, "the page that had it is damaged", False
        for n, image in enumerate(entry.images):
            row, damage = self._row(key, image)
            if row is None or damage:
                reason = reason if known else damage
                digest = digest if known or row is None else row.checksum[:_DIGEST]
                known = True
                continue
            doubt = self._doubt(entry, n, row, digest) or _unknown(row.codec)
            if doubt and entry.doubt.startswith("the index"):
                return Version(None, entry.doubt)
            return Version(row, "", digest, doubt, restored=n > 0 or image.rank == OLDER)
        return Version(None, reason, digest)

    def _doubt(self, entry: Entry, n: int, row: Row, digest: bytes | None) -> str:
        image = entry.images[n]
        if n and digest is not None:
            return "" if digest == row.checksum[:_DIGEST] else "its newest version is damaged; this one is older"
        if n or image.rank == OLDER:
            return "the page of its newest version is damaged; this may be an older one"
        if entry.doubt.startswith("two images") and self._same(entry, row):
            return ""
        return entry.doubt

    def _same(self, entry: Entry, row: Row) -> bool:
        rows = [self._row(entry.key, image) for image in entry.images[1:]]
        return all(other is not None and other.checksum == row.checksum for other, _ in rows)

    def _row(self, key: str, image: Image) -> tuple[Row | None, str]:
        """A row as a store without dictionaries can have it, and what is wrong with it."""
        try:
            row = self.survey.read(image)
        except BrokenError as err:
            return None, str(err)
        try:
            self._codec.check(key, row.codec, row.size, row.checksum, row.payload)
            made = self._codec.without_dictionary(key, row.codec, row.size, row.checksum, row.payload)
        except CodecError as err:
            return row, getattr(err, "reason", "") or str(err)
        codec, checksum, packed = made
        return row._replace(codec=codec, checksum=checksum, payload=packed), ""


class LooseCopy:
    """A directory of loose files."""

    complete = True

    def __init__(self, directory: Path, codec: Codec) -> None:
        self.damage: list[str] = []
        self._loose, self._codec = Loose(directory), codec

    def keys(self) -> Iterator[str]:
        """Names of the files that may hold an entry."""
        return self._loose.names()

    def version(self, key: str) -> Version | None:
        """Value of a file."""
        try:
            found = self._loose.load(key, self._codec.rule) if self._loose.stamp(key) else None
            return _encoded(self._codec, key, found[0], found[1].mtime_ns / 1e9) if found else None
        except AmpstoreError as err:
            return Version(None, f"its loose file: {getattr(err, 'reason', '') or err}")


class ArchiveCopy:
    """An `archive.tar.gz`; of two members with one name the last whole one counts.

    Parameters
    ----------
    rescued : Rescue
    codec : Codec
    """

    def __init__(self, rescued: Rescue, codec: Codec) -> None:
        self._rescue, self._codec = rescued, codec
        self.damage = [f"archive: {damage}" for damage in rescued.damage]
        self.complete = not self.damage
        self._members: dict[str, Rescued] = {}
        for member in rescued.members:
            if not member.reason or member.name not in self._members:
                self._members[member.name] = member

    def keys(self) -> Iterator[str]:
        """Names of the members."""
        return iter(self._members)

    def version(self, key: str) -> Version | None:
        """Value of a member."""
        member = self._members.get(key)
        if member is None or member.reason:
            return Version(None, f"archive: {member.reason}") if member else None
        try:
            value = self._codec.load_legacy(key, self._rescue.read(member))
            return _encoded(self._codec, key, value, member.mtime)._replace(doubt=member.doubt)
        except CodecError as err:
            return Version(None, f"archive: {getattr(err, 'reason', '') or err}")


def _encoded(codec: Codec, key: str, value: object, mtime: float) -> Version:
    blob = codec.encode(value)
    return Version(Row(key, blob.codec, blob.kind, blob.size, blob.checksum, mtime, blob.payload))
