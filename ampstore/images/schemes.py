"""Which scheme the keys of a store are of, and the way from one scheme to another.

A store keeps that as one fact under the name `NOTE`:

    "v2"          every key is of v2
    "v2 v1"       keys are of v2, but some may still be of v1: they are being changed, or images were lacking
    no such fact  nobody can know: a legacy program wrote the entries, or the database keeps no facts
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from ampstore.errors import MixedSchemesError
from ampstore.images.hashing import SCHEMES, get_hash, hashed, known_scheme
from ampstore.late import late_logger

if TYPE_CHECKING:
    from ase import Atoms

log = late_logger(__name__)

NOTE = "hash scheme"
"""Name of the fact."""


def schemes_in(noted: str | None) -> tuple[str | None, tuple[str, ...]]:
    """The scheme that a store's keys have, None if it notes none, and those that some keys may have besides."""
    if not noted:
        return None, SCHEMES
    scheme, *left = noted.split()
    return scheme, tuple(left)


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
    known_scheme(scheme)
    current, _ = schemes_in(noted)
    if current is not None and current != scheme:
        raise MixedSchemesError(where, current, scheme)
    return scheme


def keys_of_others(image: "Atoms", scheme: str, others: Iterable[str]) -> dict[str, str]:
    """Keys that an image has under other schemes and not under this one: key -> scheme."""
    own = get_hash(image, scheme)
    found = {get_hash(image, other): other for other in reversed([*others]) if other != scheme}
    found.pop(own, None)
    return found


class KeyChanges(NamedTuple):
    """How keys of one scheme become keys of another.

    Attributes
    ----------
    new : dict of str to str
        Old key -> new key.
    shared : set of str
        Old keys that images with different new keys share (above 1000 atoms in v0 and v1): nobody can say which
        of them a stored value belongs to.
    """

    new: dict[str, str]
    shared: set[str]


def key_changes(images: "Iterable[Atoms]", old: str, new: str = "v2") -> KeyChanges:
    """Keys under two schemes; parameters as for `new_keys`."""
    known_scheme(new)
    found: dict[str, str] = {}
    shared: set[str] = set()
    for image, was in hashed(images, old):
        key = get_hash(image, new)
        if found.setdefault(was, key) != key:
            shared.add(was)
    for was in shared:
        del found[was]
    return KeyChanges(found, shared)


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
    changes = key_changes(images, old, new)
    for was in sorted(changes.shared):
        log.warning("key %s (%s) belongs to several structures; its value cannot be assigned to one", was, old)
    return changes.new
