"""Entries by number, for whatever trains on them: a map-style dataset.

    DataLoader --[3, 17, 4]--> Dataset --one query--> values --transform--> samples, in that order

PyTorch is not imported: `torch.utils.data.DataLoader` takes anything that has `__len__`, `__getitem__` and
`__getitems__`. A dataset pickles as the location of its store and its keys, so every worker, forked or
spawned, opens the store for itself when it reads first. It only reads.

The keys are those that the store had when they were first asked for, so that a number means the same entry
in every worker, however many entries others add meanwhile.
"""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Self

from ampstore.backend import is_url
from ampstore.codec import Allowed
from ampstore.legacy import container_path
from ampstore.store.opening import locate

if TYPE_CHECKING:
    from ampstore.database import FileDatabase
    from ampstore.store import Store

Transform = Callable[[str, object], object]
"""Key and value -> sample."""


class Dataset:
    """The entries of a store as a map-style dataset: `dataset[3]`, `len(dataset)`.

    Safe for threads; works on after fork.

    Parameters
    ----------
    store : str or path-like
        A store's file, a container, or the URL of a database.
    keys : sequence of str, optional
        The entries and their order; all in the order of insertion by default.
    transform : callable(key, value), optional
        Makes the sample of an entry; has to be picklable for workers that are spawned. By default the sample is
        the value.
    allow : iterable of str or "*"
        As in `Store`.

    Raises
    ------
    MissingStoreError
        When it reads first, if there is no store.
    KeyError
        By `dataset[n]`, if another program deleted the entry.
    IndexError
        If there is no such number.
    CorruptEntryError
        If the entry is damaged; names its key.
    """

    def __init__(
        self,
        store: str | os.PathLike[str],
        keys: Sequence[str] | None = None,
        transform: Transform | None = None,
        *,
        allow: Allowed = (),
    ) -> None:
        self.location = str(locate(store))
        self.transform = transform
        self._allow: Allowed = allow if isinstance(allow, str) else tuple(allow)
        self._keys = None if keys is None else list(keys)
        self._opened: Store | FileDatabase | None = None

    def __repr__(self) -> str:
        return f"Dataset({self.location!r})"

    def __getstate__(self) -> dict[str, object]:
        """All but the open store."""
        return {**self.__dict__, "_opened": None}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the store of this process; it is opened again when something is read. Closing twice is fine."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    @property
    def keys(self) -> list[str]:
        """Keys by number."""
        if self._keys is None:
            self._keys = list(self._database().keys())
        return self._keys

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> object:
        key = self._key(index)
        return self._sample(key, self._database()[key])

    def __getitems__(self, indices: Sequence[int]) -> list[object]:
        """Samples of several numbers, in their order; what a DataLoader calls for a batch."""
        keys = [self._key(index) for index in indices]
        values = self._database().get_many(keys)
        samples = list[object]()
        for key in keys:
            # A number that comes twice gets an object of its own: a transform may change what it is given.
            value = values.pop(key) if key in values else self._database()[key]
            samples.append(self._sample(key, value))
        return samples

    def _key(self, index: int) -> str:
        try:
            return self.keys[index]
        except IndexError:
            raise IndexError(f"{index}: {self.location} has the entries 0 to {len(self.keys) - 1}") from None

    def _sample(self, key: str, value: object) -> object:
        if self.transform is None:
            return value
        try:
            return self.transform(key, value)
        except Exception as err:
            err.add_note(f"in the transform of entry {key!r} of {self.location}")
            raise

    def _database(self) -> "Store | FileDatabase":
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def _open(self) -> "Store | FileDatabase":
        from ampstore.database import FileDatabase
        from ampstore.errors import MissingStoreError
        from ampstore.store import Store

        if is_url(self.location) or os.path.isfile(self.location):
            return Store(self.location, "r", allow=self._allow)
        if container_path(self.location).is_dir():
            return FileDatabase(self.location, "r", allow=self._allow)
        raise MissingStoreError(self.location, "there is neither a store's file nor an .ampdb container here")
