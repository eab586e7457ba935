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
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ampstore.errors import HashSchemeError, NotAnImageError

if TYPE_CHECKING:
    import numpy
    from ase import Atoms
    from numpy.typing import NDArray

    Floats = NDArray[numpy.float64]

SCHEMES = ("v2", "v1", "v0", "v1-long", "v0-long")
"""Names of the generations of keys; the first is the default."""

NumberText = Callable[[list[int]], bytes]

_FEW = 25
"""Atoms below which one %-format of the positions is as fast as arrays or faster (they cross at 20 to 30)."""

_KEPT = 1000
"""Atoms up to which the text before the positions is kept for the next image: 256 texts are a few MB at most."""

_BATCH = 3000
"""Coordinates written at once: enough to share the costs of a call, few enough for the processor's cache."""

_BOUNDARIES = {
    bytes((a, b, c)): f"[{a!s:>5} {b!s:>5} {c!s:>5}]".encode()
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
    known_scheme(scheme)
    head, positions = _parts(atoms, scheme)
    return _md5(head + _written(positions))


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
    known_scheme(scheme)
    waiting: list[Atoms] = []
    parts: list[tuple[bytes, Floats]] = []
    numbers = 0
    for n, image in enumerate(images):
        head, positions = _parts(image, scheme, n)
        parts.append((head, positions.copy()))
        waiting.append(image)
        numbers += 8 + len(positions)
        if numbers > _BATCH:
            yield from zip(waiting, _keys(parts), strict=True)
            waiting, parts, numbers = [], [], 0
    yield from zip(waiting, _keys(parts), strict=True)


def _parts(atoms: "Atoms", scheme: str, index: int | None = None) -> "tuple[bytes, Floats]":
    """The text before the positions, and the positions, not copied."""
    try:
        cell, numbers = _as(getattr(atoms.cell, "array", atoms.cell), "d"), _as(atoms.numbers, "l")
        head = _head if len(numbers) <= _KEPT else _head.__wrapped__
        return head(atoms.pbc.tobytes(), cell.tobytes(), numbers.tobytes(), scheme), atoms.positions.ravel()
    except (AttributeError, KeyError, TypeError) as err:
        raise NotAnImageError(type(atoms).__name__, index) from err


def _as(array: "NDArray[Any]", code: str) -> "NDArray[Any]":
    return array if array.dtype.char == code else array.astype(code)


@functools.lru_cache(maxsize=256)
def _head(boundary: bytes, cell: bytes, numbers: bytes, scheme: str) -> bytes:
    """The text before the positions, from the bytes of the arrays; the frames of a trajectory share it."""
    import numpy

    lengths = numpy.frombuffer(cell, numpy.float64).tolist()
    words = _number_text(scheme)(numpy.frombuffer(numbers, "l").tolist())
    return _BOUNDARIES[boundary] + _form(9) % tuple(lengths) + words


def _written(positions: "Floats") -> bytes:
    """Text of the positions of one structure."""
    if len(positions) >= 3 * _FEW:
        from ampstore.images import digits

        if digits.EXACT and (fields := digits.fields(positions)) is not None:
            return digits.text(fields)
    return _form(len(positions)) % tuple(positions.tolist())


def _keys(batch: "list[tuple[bytes, Floats]]") -> Iterator[str]:
    """Keys of several structures with all their digits made at once."""
    import numpy

    from ampstore.images import digits

    together = [positions for _, positions in batch]
    fields = digits.fields(numpy.concatenate(together)) if batch and digits.EXACT else None
    if fields is None:  # one of them has a number that has no field
        yield from (_md5(head + _written(positions)) for head, positions in batch)
        return
    start = 0
    for head, positions in batch:
        end = start + digits.WIDTH * len(positions)
        yield _md5(head + digits.text(fields[start:end]))
        start = end


def _md5(text: bytes) -> str:
    return hashlib.md5(text, usedforsecurity=False).hexdigest()


@functools.lru_cache(maxsize=256)
def _form(numbers: int) -> bytes:
    return b"%.15f" * numbers


def known_scheme(scheme: str) -> str:
    """The scheme, if there is one of this name; else HashSchemeError."""
    _number_text(scheme)
    return scheme


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
