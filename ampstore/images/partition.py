"""Training and test images, drawn at random."""

from typing import TYPE_CHECKING

from ampstore.images.reading import Images, read_images

if TYPE_CHECKING:
    import numpy
    from ase import Atoms


def randomize_images(
    images: Images,
    fraction: float = 0.8,
    *,
    rng: "int | numpy.random.Generator | None" = None,
) -> "tuple[list[Atoms], list[Atoms]]":
    """Divide images at random into training and test images.

    Parameters
    ----------
    images : iterable of ase.Atoms, path, or dictionary
        Whatever `hash_images` takes; every image of a file is read.
    fraction : float
        Part of the images for training, from 0 to 1. The number is rounded down.
    rng : int or numpy.random.Generator, optional
        Seed or generator. Without it the global stream of NumPy is used exactly as Amp uses it, so that a seeded
        program gets the same division, and the same numbers afterwards, as with Amp. The rejected draws which that
        takes become many only where nearly all are test images (N ln N at ``fraction=0``).

    Returns
    -------
    train_images, test_images : list
        Both in the order of `images`.

    Raises
    ------
    ValueError
        If `fraction` is outside 0..1.
    NotAnImageError, UnreadableImagesError, FileNotFoundError
        As `hash_images`.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction is the part of the images for training, from 0 to 1, not {fraction!r}")
    pool = list(read_images(images))
    tests = len(pool) - int(fraction * len(pool))
    chosen = _drawn_as_amp(len(pool), tests) if rng is None else _drawn(len(pool), tests, rng)
    train = [image for n, image in enumerate(pool) if n not in chosen]
    return train, [image for n, image in enumerate(pool) if n in chosen]


def _drawn_as_amp(total: int, count: int) -> set[int]:
    """One number after the other from the global stream, until there are enough different ones."""
    from numpy import random

    chosen: set[int] = set()
    while len(chosen) < count:
        chosen.add(int(random.randint(total)))
    return chosen


def _drawn(total: int, count: int, rng: "int | numpy.random.Generator") -> set[int]:
    from numpy import random

    return set(random.default_rng(rng).permutation(total)[:count].tolist())
