"""What any shelve-like database can be asked: which keys it lacks, and which hash scheme its keys are of.

    note "v2", images v2          nothing more is asked
    note "v2", images v1          refused: nothing would be found, and everything be calculated again
    no entries                    noted with the first result
    no note, or "v2 v1"           a sample of what is missing is looked for under the other schemes; refused if
                                  some of it is there

The scheme is asked for when something is missing, so it costs nothing where nothing is. The last
case is that of a container that Amp wrote, where nobody noted anything, and of databases that keep no
notes: LegacyDatabase, the stdlib's shelve.
"""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ampstore.errors import MixedSchemesError
from ampstore.images import check_scheme
from ampstore.images.schemes import NOTE, keys_of_others, schemes_in
from ampstore.shelf import Shelf

SAMPLE = 100
"""Images that are looked for under other schemes: some 10 ms of hashing."""


def missing(database: Any, keys: Iterable[str]) -> list[str]:
    """Those of the keys that are not in a shelve-like database, asked in the way that costs least."""
    if hasattr(database, "missing"):
        return list(database.missing(keys))
    contains = getattr(type(database), "__contains__", None)
    if contains is None or contains is Mapping.__contains__:  # that one reads the value
        known = set(database.keys())
        return [key for key in keys if key not in known]
    return [key for key in keys if key not in database]


def scheme_of(images: object) -> str | None:
    """Hash scheme of the keys of images, None if `hash_images` did not make them."""
    metadata = getattr(images, "metadata", None)
    return metadata.get("scheme") if isinstance(metadata, Mapping) else None


def agree(database: Any, images: Mapping[str, Any], lacking: Sequence[str], where: str) -> bool:
    """Refuse images whose keys are of another scheme than those in a database; whether to `note` theirs.

    Parameters
    ----------
    database : shelve-like
        Open, also for reading only.
    images : mapping of str to image
    lacking : sequence of str
        Those of their keys that are not in the database.
    where : str
        Name of the database for the message.

    Raises
    ------
    MixedSchemesError
        (a ValueError)
    """
    scheme = scheme_of(images)
    if scheme is None:
        return False
    noted = _noted(database)
    if noted == scheme:
        return False
    if not len(database):
        check_scheme(None, scheme)
        return True
    check_scheme(noted, scheme, where)
    others = _keys_of_others(images, lacking, scheme, schemes_in(noted)[1])
    there = others.keys() - missing(database, others)
    if there:
        raise MixedSchemesError(where, others[min(there)], scheme)
    return False


def note(database: Any, images: Mapping[str, Any], where: str) -> None:
    """Note the scheme of images in a database that has no entries yet, if it keeps notes.

    Raises
    ------
    MixedSchemesError
        (a ValueError) if another program was faster, with another scheme.
    """
    notes, scheme = _notes(database), scheme_of(images)
    if scheme is None or not hasattr(notes, "renote"):
        return
    noted = notes.noted(NOTE)
    if len(database) or not notes.renote(NOTE, noted, scheme):
        check_scheme(notes.noted(NOTE), scheme, where)


def _notes(database: Any) -> Any:
    return database.dict if isinstance(database, Shelf) else database


def _noted(database: Any) -> str | None:
    notes = _notes(database)
    return notes.noted(NOTE) if hasattr(notes, "noted") else None


def _keys_of_others(
    images: Mapping[str, Any], keys: Sequence[str], scheme: str, others: Sequence[str]
) -> dict[str, str]:
    """Keys of a sample of the images under other schemes: key -> scheme."""
    found: dict[str, str] = {}
    for key in keys[:: max(1, len(keys) // SAMPLE)]:
        with contextlib.suppress(Exception):  # an image that cannot be read is a failure of its calculation
            found |= keys_of_others(images[key], scheme, others)
    return found
