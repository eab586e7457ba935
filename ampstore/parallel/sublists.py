"""Work divided at random, as Amp does it."""

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def make_sublists(masterlist: Iterable[T], n: int) -> list[list[T]]:
    """Divide a list at random into sublists of about equal size.

    Uses numpy's global random stream exactly as Amp does, so that a program with a seed gets the same
    sublists, and the same numbers afterwards.

    Parameters
    ----------
    masterlist : iterable
        Left as it is.
    n : int

    Returns
    -------
    list of list
        `n` of them; the first ones have one item more if the items do not divide evenly, the last ones
        none if there are fewer than `n`.

    Raises
    ------
    ValueError
        If `n` is not positive: all work would be lost.
    """
    import numpy

    if n < 1:
        raise ValueError(f"n={n!r}: work can be divided into one or more sublists only")
    items = list(masterlist)
    least, more = divmod(len(items), n)
    numpy.random.shuffle(items)  # type: ignore[arg-type]
    return [[items.pop() for _ in range(least + (i < more))] for i in range(n)]
