"""Structures of a store as a file that other programs read, and back, each with its key.

    .db                  ASE's database: the key is the key-value pair `ampstore_key`
    .extxyz, .xyz        extended XYZ: the key is `ampstore_key` of the frame's info
    any other suffix     an adapter of an installed package: entry points of the group `ampstore.adapters`

The key has to travel along: extended XYZ has 8 decimals, so a structure that comes back is another one to
`get_hash`. Both formats turn a text that looks like a number into one, 0012 into 12; such a key, and one with
anything but letters, digits, _ . and -, is written as `key:` and its percent-encoding.

An adapter is a module, an object or a class with two functions; it is loaded when its suffix is asked for:

    [project.entry-points."ampstore.adapters"]
    mysuffix = "mypkg.frames"         # mypkg.frames.write(path, pairs), mypkg.frames.read(path)
"""

import contextlib
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast
from urllib.parse import quote, unquote

from ampstore.errors import ImageFormatError, NotAnImageError, UnreadableImagesError
from ampstore.images.hashing import get_hash

if TYPE_CHECKING:
    from ase import Atoms

GROUP = "ampstore.adapters"
NAME = "ampstore_key"
_ESCAPED = "key:"
_PLAIN = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
_LIKE_NUMBERS = re.compile(r"[0-9eEdDjJ_.+-]*", re.ASCII)
_LIKE_WORDS = frozenset(("t", "f", "true", "false", "none", "nan", "inf", "infinity", "-inf", "-nan", "-infinity"))


class Adapter(Protocol):
    """What writes and reads one kind of file."""

    def write(self, path: str, pairs: "Iterable[tuple[str, Atoms]]") -> None:
        """Write a new file, taking the pairs one after the other."""

    def read(self, path: str) -> "Iterator[tuple[str | None, Atoms]]":
        """Keys and structures of a file; None for one that has no key."""


def export_images(store: "Mapping[str, Atoms]", path: str | os.PathLike[str], keys: Iterable[str] | None = None) -> int:
    """Write structures that are stored as values into a new file, with their keys.

    Parameters
    ----------
    store : mapping of str to ase.Atoms
        A Store, Shelf, FileDatabase or dict.
    path : str or path-like
        A name that is free; its suffix says the format. The file has it once it is whole.
    keys : iterable of str, optional
        Which ones and in which order; all of the store by default.

    Returns
    -------
    int
        Number of structures.

    Raises
    ------
    FileExistsError
        If the name is taken.
    KeyError
        If one of the keys is not there.
    NotAnImageError
        (a TypeError) if a value is no structure.
    ImageFormatError
        (a ValueError) if nothing knows the suffix.
    """
    target = Path(os.path.abspath(path))
    adapter = _adapter(target)
    if target.exists():
        raise FileExistsError(f"{target} exists; choose a name that is free")
    count = 0

    def pairs() -> "Iterator[tuple[str, Atoms]]":
        nonlocal count
        for key in store if keys is None else keys:
            yield key, _structure(key, store[key])
            count += 1

    partial = target.with_name(f".{secrets.token_hex(8)}.new{target.suffix}")
    try:
        adapter.write(str(partial), pairs())
        os.link(partial, target)  # raises FileExistsError
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
    return count


def import_images(path: str | os.PathLike[str], store: "MutableMapping[str, Atoms]") -> int:
    """Store the structures of a file under their keys; those without one under their `get_hash`.

    Parameters
    ----------
    path : str or path-like
        Its suffix says the format.
    store : mutable mapping
        A Store, Shelf, FileDatabase or dict; keys that it has are replaced.

    Returns
    -------
    int
        Number of structures.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    ImageFormatError
        (a ValueError) if nothing knows the suffix.
    UnreadableImagesError
        (an OSError) if the file is damaged. What came before the damage may be stored.
    """
    source = Path(os.path.abspath(path))
    adapter = _adapter(source)
    if not source.is_file():
        raise FileNotFoundError(f"there is no file {source}")
    count = 0

    def pairs() -> "Iterator[tuple[str, Atoms]]":
        nonlocal count
        for key, atoms in _read(adapter, source):
            yield key if key is not None else get_hash(atoms), atoms
            count += 1

    put_many = getattr(store, "put_many", None)
    if put_many:
        put_many(pairs())
    else:
        for key, atoms in pairs():
            store[key] = atoms
    return count


def _read(adapter: Adapter, source: Path) -> "Iterator[tuple[str | None, Atoms]]":
    """What an adapter reads; whatever it makes of a damaged file is one error."""
    pairs, count = adapter.read(str(source)), 0
    while True:
        try:
            pair = next(pairs, None)
        except Exception as err:
            raise UnreadableImagesError(str(source), f"{type(err).__name__}: {err}", count) from err
        if pair is None:
            return
        yield pair
        count += 1


def _structure(key: str, value: object) -> "Atoms":
    from ase import Atoms

    if not isinstance(value, Atoms):
        raise NotAnImageError(f"{type(value).__qualname__} of entry {key!r}")
    return value


def text_of(key: str) -> str:
    """A key as a text that no format takes for a number."""
    plain = _PLAIN.fullmatch(key) and not _LIKE_NUMBERS.fullmatch(key) and key.lower() not in _LIKE_WORDS
    return key if plain else _ESCAPED + quote(key, safe="")


def key_of(text: object) -> str | None:
    """The key that a text was made of, None if it is no text."""
    if not isinstance(text, str):
        return None
    return unquote(text.removeprefix(_ESCAPED)) if text.startswith(_ESCAPED) else text


class AseDatabase:
    """ASE's database in its SQLite form; keeps what a row of it keeps: no info, no arrays of your own."""

    @staticmethod
    def write(path: str, pairs: "Iterable[tuple[str, Atoms]]") -> None:
        """See `Adapter`."""
        from ase.db import connect

        with connect(path, type="db") as database:  # type: ignore[no-untyped-call]
            for key, atoms in pairs:
                database.write(atoms, key_value_pairs={NAME: text_of(key)})

    @staticmethod
    def read(path: str) -> "Iterator[tuple[str | None, Atoms]]":
        """See `Adapter`."""
        from ase.db import connect

        for row in connect(path, type="db").select():  # type: ignore[no-untyped-call]
            yield key_of(row.key_value_pairs.get(NAME)), row.toatoms()


class ExtendedXyz:
    """Extended XYZ: info and arrays go along; numbers have 8 decimals."""

    @staticmethod
    def write(path: str, pairs: "Iterable[tuple[str, Atoms]]") -> None:
        """See `Adapter`."""
        from ase.io.extxyz import write_xyz

        with open(path, "w", encoding="utf-8") as file:
            for key, atoms in pairs:
                image = atoms.copy()  # type: ignore[no-untyped-call]
                image.calc = atoms.calc
                image.info[NAME] = text_of(key)
                write_xyz(file, [image])

    @staticmethod
    def read(path: str) -> "Iterator[tuple[str | None, Atoms]]":
        """See `Adapter`."""
        from ase.io import iread

        for atoms in iread(path, format="extxyz"):
            yield key_of(atoms.info.pop(NAME, None)), atoms


_BUILTIN: dict[str, Adapter] = {"db": AseDatabase(), "extxyz": ExtendedXyz(), "xyz": ExtendedXyz()}


def _adapter(path: Path) -> Adapter:
    suffix = path.suffix.removeprefix(".")
    if suffix in _BUILTIN:
        return _BUILTIN[suffix]
    from importlib.metadata import entry_points  # 30 ms

    found = {point.value: point for point in entry_points(group=GROUP, name=suffix)} if suffix else {}
    if len(found) != 1:
        several = f"several installed packages read it ({', '.join(sorted(found))}); remove all but one"
        none = f"only .db, .extxyz, .xyz and what installed packages add ({GROUP}) are known"
        raise ImageFormatError(str(path), f"suffix {path.suffix!r}: {several if found else none}")
    ((target, point),) = found.items()
    try:
        adapter = point.load()
    except Exception as err:
        raise ImageFormatError(str(path), f"its adapter {target} does not load: {type(err).__name__}: {err}") from err
    return cast("Adapter", adapter)
