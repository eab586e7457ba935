"""Where results go.

A database that has `claims` (FileDatabase, Store) is shared with other programs that calculate: keys
are claimed before they are handed out, and a result is stored unless the key has one by now. Any
other shelve-like database just gets the results; there one program at a time may calculate.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from ampstore.codec import Blob, Codec
from ampstore.data.calculator import Calculation, Encoding
from ampstore.data.progress import Progress
from ampstore.data.runs import FAILURES, Telling, forget_old
from ampstore.errors import StoreError
from ampstore.parallel import Failure, Function
from ampstore.store.claims import Claims, Taken

Pairs = Sequence[tuple[str, object]]


class Claiming(Protocol):
    """A database that offers claims."""

    @property
    def codec(self) -> Codec:
        """How values become what is stored."""

    def claims(self, lease: float) -> Claims:
        """Claims on keys that are being computed."""


class Shelf(Protocol):
    """What a shelve-like database must have to be written to."""

    def __setitem__(self, key: str, value: object, /) -> None: ...

    def update(self, other: dict[str, object], /) -> None:
        """As dict.update."""

    def close(self) -> None:
        """End writing."""


class Sink(Protocol):
    """Takes results for a task."""

    def function(self, calculation: Calculation) -> Function:
        """What workers have to do."""

    def take(self, keys: Sequence[str], most: int) -> Taken:
        """Reserve up to `most` of the keys."""

    def holds(self, key: str) -> bool:
        """Whether a key is still reserved."""

    def put(self, pairs: Pairs) -> None:
        """Store results together, durably."""

    def release(self, keys: Sequence[str] | None = None) -> None:
        """Give keys back; all of them by default."""

    def kept(self) -> contextlib.AbstractContextManager[None]:
        """Context in which what is reserved stays so."""

    def tell(self, progress: Progress, failures: Sequence[Failure], *, ended: bool = False) -> None:
        """Note how far the run is, where the database keeps notes."""


class ClaimingSink:
    """Results go to a database that offers claims."""

    def __init__(self, database: Claiming, lease: float) -> None:
        self._codec = database.codec
        self._claims = database.claims(lease)
        self.take = self._claims.take
        self.holds = self._claims.holds
        self.release = self._claims.release
        self.kept = self._claims.kept
        self._telling: Telling | None = None

    def function(self, calculation: Calculation) -> Function:
        """What workers have to do: calculate and encode."""
        return Encoding(calculation, self._codec)

    def put(self, pairs: Pairs) -> None:
        """Store results in one transaction, and give the keys back."""
        self._claims.put(pairs)  # type: ignore[arg-type]

    def tell(self, progress: Progress, failures: Sequence[Failure], *, ended: bool = False) -> None:
        """Note how far the run is, from time to time."""
        if self._telling is None:
            self._telling = Telling(self._claims.owner, progress.total, self._note)
        first = [[failure.key, failure.cause] for failure in failures[:FAILURES]]
        self._telling.tell(progress.done, first, progress.failed, ended=ended)

    def _note(self, name: str, value: str) -> None:
        if (store := self._claims.store) is not None:
            store.note(name, value)
            forget_old(store)


class PlainSink:
    """Results go to any shelve-like database."""

    def __init__(self, database: Shelf) -> None:
        self._database = database
        self._sync: Callable[[], object] | None = getattr(database, "sync", None)

    def function(self, calculation: Calculation) -> Function:
        """What workers have to do."""
        return calculation

    def take(self, keys: Sequence[str], most: int) -> Taken:
        """The first keys: nobody else is there."""
        mine = list(keys[:most])
        return Taken(mine, [], [], len(mine))

    def holds(self, key: str) -> bool:  # noqa: ARG002
        """Always."""
        return True

    def put(self, pairs: Pairs) -> None:
        """Store results; as durably as the database can."""
        self._database.update(dict(pairs))
        if self._sync is not None:
            self._sync()

    def release(self, keys: Sequence[str] | None = None) -> None:
        """Nothing is reserved."""

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Nothing is reserved."""
        yield

    def tell(self, progress: Progress, failures: Sequence[Failure], *, ended: bool = False) -> None:
        """Nobody asks such a database."""


FATAL = (StoreError, OSError, MemoryError)
"""What a database raises when it is the database that fails, not one result."""


def put_all(sink: Sink, pairs: Pairs) -> list[Failure]:
    """Store results together, or one by one if there is one that is refused; failures of those."""
    try:
        sink.put(pairs)
    except FATAL:
        raise
    except Exception:  # noqa: BLE001 - whatever any database has against a value
        return [failure for pair in pairs if (failure := _refusal(sink, pair))]
    return []


def _refusal(sink: Sink, pair: tuple[str, object]) -> Failure | None:
    try:
        sink.put([pair])
    except FATAL:
        raise
    except Exception as err:  # noqa: BLE001
        sink.release([pair[0]])
        return Failure.of(pair[0], err)
    return None


def bytes_of(value: object) -> int:
    """Bytes of an encoded value, 0 if that cannot be known."""
    return len(value.payload) if isinstance(value, Blob) else 0
