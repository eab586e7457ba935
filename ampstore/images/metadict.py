"""Dictionaries of images that carry facts about themselves: how often each occurred, what made the keys."""

import copy
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Self


class MetaDict(dict[str, Any]):
    """A dict with metadata of its own.

    Attributes
    ----------
    metadata : dict
        Of this one dict: not shared with others, kept by pickling and copied by `copy`. `hash_images` puts
        ``duplicates`` there (key -> number of occurrences, from 2) and ``scheme``. The attribute of the class is
        an empty dict that programs of Amp may read.
    """

    metadata: dict[str, Any] = {}

    def __new__(cls, *_: object, **__: object) -> "Self":  # noqa: D102
        self = super().__new__(cls)
        self.metadata = {}
        return self

    def copy(self) -> "Self":
        """The same images in another dict, and a copy of the metadata."""
        twin = type(self)(self)
        twin.metadata = copy.deepcopy(self.metadata)
        return twin

    __copy__ = copy


class OrderedMetaDict(MetaDict, OrderedDict[str, Any]):
    """A `MetaDict` that is an OrderedDict, too: equality and `move_to_end` know the order."""

    def __init__(self, items: "Mapping[str, Any] | Iterable[tuple[str, Any]]" = (), **more: object) -> None:
        OrderedDict.__init__(self, items, **more)
