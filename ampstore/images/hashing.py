"""Keys of atomic structures, byte for byte those of Amp.

A key is the MD5 of a text: periodic boundary, cell, atomic numbers, positions.

    [ True  True False]  5.100000000000000 …   29 29 78  0.000000000000000 …
    pbc                  cell, %.15f           Z         positions, %.15f

Only the form of the atomic numbers ever changed, so a key is meaningless without its scheme:

    v2        every Amp 1.x: %3d each; the default
    v1        Amp 0.6.1 with NumPy >= 1.14: NumPy's text of the array
    v0        Amp 0.6.1 with NumPy < 1.14: the same with other line breaks
    v1-long, v0-long   the same in a process that had saved a model before: arrays of more than 1000 atoms in full

No key of 0.6.1 equals one of 1.x. What surprises: v0 and v1 leave out all but six atomic numbers above 1000
atoms, so two large alloys may share a key there.
"""

import functools
import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from ampstore.errors import HashSchemeError, MixedSchemesError, NotAnImageError

if TYPE_CHECKING:
    import numpy
    from ase import Atoms
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

SCHEMES = ("v2", "v1", "v0", "v1-long", "v0-long")
"""Names of the generations of keys; the first is the default."""

NumberText = Callable[[list[int]], bytes]

_FEW = 22
"""Atoms below which one %-format of everything is faster than arrays (the crossing measured)."""

_BATCH = 1000
"""Atoms whose digits are made at once: enough to share the costs of a call, few enough for the processor's cache."""

_BOUNDARIES = {
    (a, b, c): f"[{a!s:>5} {b!s:>5} {c!s:>5}]".encode()
    for a in (False, True)
    for b in (False, True)
    for c in (False, True)
}


def get_hash(atoms: "Atoms", scheme: str = "v2") -> str:
    """Key of one structure, equal to the one that Amp gives it.

    Parameters
    ----------
    atoms : ase.Atoms
        Its numbers, positions (Å), cell (Å) and pbc enter; nothing else does: neither constraints, tags, momenta,
        charges, magnetic moments, info nor results. The order of the atoms matters, and so does a cell that is
        not periodic.
    scheme : {"v2", "v1", "v0", "v1-long", "v0-long"}
        Generation of Amp: v2 is every 1.x, v1 and v0 are 0.6.1 with NumPy >= 1.14 and before. The ``-long`` forms
        are what 0.6.1 gave to more than 1000 atoms once it had saved a model.

    Returns
    -------
    str
        32 lower-case hexadecimal digits.

    Raises
    ------
    NotAnImageError
        (a TypeError) if `atoms` is something else.
    HashSchemeError
        (a ValueError) if there is no such scheme.

    Notes
    -----
    Every structure has a key, as in Amp: no atoms at all, Z = 0 and above 118, a cell of 1e300 Å. NaN and infinity
    are hashed as the words ``nan`` and ``inf``. ``-0.0`` and ``0.0`` are different texts and so different keys; so
    are numbers that differ by more than half of 1e-15. NumPy's print options do not matter here, where in 0.6.1
    ``linewidth``, ``threshold`` and ``edgeitems`` changed keys; those of v0 and v1 are the ones under NumPy's
    defaults.

    The function is pure and safe in several threads.
    """
    parts = _parts(atoms)
    number_text = _number_text(scheme)
    if len(parts.numbers) >= _FEW:
        return next(_keys([parts], number_text))
    return _key(parts, number_text)


def get_hashes(images: "Iterable[Atoms]", scheme: str = "v2") -> list[str]:
    """Keys of many structures, in order; per structure faster than `get_hash`.

    Parameters
    ----------
    images : iterable of ase.Atoms
        Each is looked at when it is taken, so that an iterator may change one object and yield it again.
    scheme : str
        As for `get_hash`.
    """
    return [key for _, key in hashed(images, scheme)]


def hashed(images: "Iterable[Atoms]", scheme: str = "v2") -> "Iterator[tuple[Atoms, str]]":
    """Pairs of image and key, streaming: at most some thousand atoms are held back.

    Parameters
    ----------
    images : iterable of ase.Atoms
        Any number of them.
    scheme : str
        As for `get_hash`.

    Raises
    ------
    NotAnImageError
        Naming the position of the one that is not an image.
    """
    number_text = _number_text(scheme)
    waiting: list[Atoms] = []
    parts: list[_Parts] = []
    atoms = 0
    for n, image in enumerate(images):
        parts.append(_parts(image, n))
        waiting.append(image)
        atoms += 8 + len(parts[-1].numbers)
        if atoms > _BATCH:
            yield from zip(waiting, _keys(parts, number_text), strict=True)
            waiting, parts, atoms = [], [], 0
    yield from zip(waiting, _keys(parts, number_text), strict=True)


def check_scheme(noted: str | None, scheme: str, where: str = "this store") -> str:
    """The scheme that a store's keys have from now on; an error if it has another one already.

    Parameters
    ----------
    noted : str or None
        What the store says about its keys; None if it has none yet.
    scheme : str
        What is about to be read or written.
    where : str
        Name of the store for the message.

    Raises
    ------
    MixedSchemesError
        (a ValueError) if the two differ.
    """
    _number_text(scheme)
    if noted is not None and noted != scheme:
        raise MixedSchemesError(where, noted, scheme)
    return scheme


def new_keys(images: "Iterable[Atoms]", old: str, new: str = "v2") -> dict[str, str]:
    """Key of scheme `old` -> key of scheme `new`, for changing the keys of a store.

    A hash cannot be turned back, so the structures are needed. Where structures with different new keys share an
    old one (above 1000 atoms in v0 and v1), nobody can say which of them a stored value belongs to: such keys are
    left out and logged.

    Parameters
    ----------
    images : iterable of ase.Atoms
        The structures whose values are stored.
    old, new : str
        Schemes as for `get_hash`.
    """
    found: dict[str, str] = {}
    shared: set[str] = set()
    for image, was in hashed(images, old):
        key = get_hash(image, new)
        if found.setdefault(was, key) != key:
            shared.add(was)
    for was in shared:
        log.warning("key %s (%s) belongs to several structures; its value cannot be assigned to one", was, old)
        del found[was]
    return found


class _Parts(NamedTuple):
    """Copies of what of a structure enters its key."""

    boundary: bytes
    cell: "NDArray[numpy.float64]"
    numbers: "NDArray[numpy.int64]"
    positions: "NDArray[numpy.float64]"


def _parts(atoms: "Atoms", index: int | None = None) -> _Parts:
    try:
        cell = atoms.cell
        cell = getattr(cell, "array", cell).flatten()
        return _Parts(_BOUNDARIES[tuple(atoms.pbc.tolist())], cell, atoms.numbers.copy(), atoms.positions.flatten())
    except (AttributeError, KeyError, TypeError) as err:
        raise NotAnImageError(type(atoms).__name__, index) from err


def _key(parts: _Parts, number_text: NumberText) -> str:
    numbers = parts.numbers.tolist()
    form = _form(3 * len(numbers))
    text = form % (parts.boundary, *parts.cell.tolist(), number_text(numbers), *parts.positions.tolist())
    return _md5(text)


def _keys(batch: list[_Parts], number_text: NumberText) -> Iterator[str]:
    """Keys of several structures with all their digits made at once."""
    if not batch:
        return
    import numpy

    from ampstore.images import digits

    flat = [array for parts in batch for array in (parts.cell, parts.positions)]
    fields = digits.fields(numpy.concatenate(flat)) if digits.EXACT else None
    if fields is None and len(batch) > 1:  # one of them has a number that has no field
        for parts in batch:
            yield from _keys([parts], number_text)
        return
    if fields is None:
        yield _key(batch[0], number_text)
        return
    written = _together(batch) if len(batch) > 1 and number_text is _three_wide else None
    start = first = 0
    for boundary, _, numbers, positions in batch:
        middle = start + 9 * digits.WIDTH
        end = middle + len(positions) * digits.WIDTH
        last = first + 3 * len(numbers)
        words = written[first:last] if written is not None else number_text(numbers.tolist())
        yield _md5(boundary + digits.text(fields[start:middle]) + words + digits.text(fields[middle:end]))
        start, first = end, last


def _together(batch: list[_Parts]) -> bytes | None:
    """The atomic numbers of all, three bytes each; None if one needs more."""
    import numpy

    from ampstore.images import digits

    return digits.three_wide(numpy.concatenate([parts.numbers for parts in batch]))


def _md5(text: bytes) -> str:
    return hashlib.md5(text, usedforsecurity=False).hexdigest()


@functools.lru_cache(maxsize=256)
def _form(coordinates: int) -> bytes:
    return b"%s" + 9 * b"%.15f" + b"%s" + coordinates * b"%.15f"


def _number_text(scheme: str) -> NumberText:
    """Function that writes the atomic numbers as this generation does."""
    try:
        return _NUMBER_TEXTS[scheme]
    except (KeyError, TypeError):
        raise HashSchemeError(str(scheme), SCHEMES) from None


def _three_wide(numbers: list[int]) -> bytes:
    return b"%3d" * len(numbers) % tuple(numbers)


def _array_text(numbers: list[int], line: int, dots: str, threshold: float = 1000) -> bytes:
    """NumPy's text of a one-dimensional array of integers under its default print options.

    Every number is as wide as the widest; a line has at most `line` characters, the opening bracket included.
    """
    if len(numbers) > threshold:
        shown = numbers[:3] + numbers[-3:]
        width = max(len(str(number)) for number in shown)
        words = [f"{number:{width}d}" for number in shown]
        return f"[{' '.join([*words[:3], dots, *words[3:]])}]".encode()
    width = max((len(str(number)) for number in numbers), default=0)
    words = [f"{number:{width}d}" for number in numbers]
    each = max(1, line // (width + 1))
    separator = "\n "
    lines = (" ".join(words[n : n + each]) for n in range(0, len(words), each))
    return f"[{separator.join(lines)}]".encode()


_NUMBER_TEXTS: dict[str, NumberText] = {
    "v2": _three_wide,
    "v1": functools.partial(_array_text, line=74, dots="..."),
    "v0": functools.partial(_array_text, line=75, dots="...,"),
    "v1-long": functools.partial(_array_text, line=74, dots="...", threshold=999_999_999),
    "v0-long": functools.partial(_array_text, line=75, dots="...,", threshold=999_999_999),
}
