"""Claims: who is computing which key, so that many processes share one job and none does it twice.

    take   free key           --insert-->            claim(key, owner, token 1, now + lease)
    take   claim of the dead  --compare and set-->   claim(key, owner, token + 1, now + lease)
    renew  all of one owner   ---------------->      now + lease
    put    value, unless the key has one by now, and the claim goes, in one transaction

All times are those of the database, so that claimants need no common clock. A result that comes
after its claim expired is stored if it is the first one for its key, and dropped if not.

When a claim is taken from its owner:

- at once, if the owner was a process of this machine that has ended;
- if it has expired, but only after it stayed unchanged for half a lease by this process's own
  monotonic clock. A wall clock that jumps ahead makes every claim look expired; owners that live
  renew theirs in a quarter of a lease, which shows that they do;
- likewise if it lasts longer than any lease may: then the wall clock has jumped back.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ampstore.codec import Blob
from ampstore.errors import StoreError
from ampstore.late import late_logger
from ampstore.owner import has_ended, new_owner

if TYPE_CHECKING:
    from ampstore.store.store import Store

log = late_logger(__name__)

LEASE = 60.0
"""Seconds that a claim lasts unless it is renewed, which happens every quarter of that."""

LONGEST_LEASE = 3600.0
GROUP = 256

_State = tuple[str, int, float]  # owner, token, time of expiry


class Taken(NamedTuple):
    """What `Claims.take` found.

    Attributes
    ----------
    mine : list of str
        Keys that are claimed now.
    stored : list of str
        Keys that have a value.
    others : list of str
        Keys that somebody else has claimed.
    seen : int
        How many of the keys were looked at, from the front.
    """

    mine: list[str]
    stored: list[str]
    others: list[str]
    seen: int


class Claims:
    """The claims of one owner in one store.

    Safe for threads, made in the process that uses it.

    Parameters
    ----------
    store : callable
        Returns the store, opened for writing. It is asked every time, since a container can be
        removed and made anew; its claims are gone then.
    existing : callable, optional
        The same, None where there is no store (any more): renewing and giving back make none.
    lease : float
        Seconds, 0 < lease <= 3600.
    around : callable
        Context manager around storing values; gets the store and the keys.
    clock : callable
        Monotonic time of this process, seconds.
    """

    def __init__(
        self,
        store: "Callable[[], Store]",
        lease: float = LEASE,
        *,
        existing: "Callable[[], Store | None] | None" = None,
        around: "Callable[[Store, Sequence[str]], contextlib.AbstractContextManager[None]] | None" = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 < lease <= LONGEST_LEASE:
            raise ValueError(f"lease must be more than 0 and at most {LONGEST_LEASE:g} s, not {lease!r}")
        self.owner = new_owner()
        self.lease = lease
        self._store = store
        self._existing = existing or store
        self._around = around or (lambda store, keys: contextlib.nullcontext())  # noqa: ARG005
        self._clock = clock
        self._lock = threading.RLock()
        self._held: dict[str, int] = {}
        self._sure_until = float("-inf")
        self._seen: dict[str, tuple[_State, float]] = {}

    def take(self, keys: Sequence[str], most: int) -> Taken:
        """Claim up to `most` of the keys, looking at them in their order."""
        store, taken, seen = self._store(), Taken([], [], [], 0), 0
        while seen < len(keys) and len(taken.mine) < most:
            room = most - len(taken.mine)
            group = keys[seen : seen + max(16, min(GROUP, 2 * room))]
            seen += self._take_group(store, group, room, taken)
        return taken._replace(seen=seen)

    def _take_group(self, store: "Store", keys: Sequence[str], most: int, taken: Taken) -> int:
        absent = set(store.missing(keys))
        states = {key: (row, left) for key, *row, left in store.backend.claims(sorted(absent))}
        wanted: dict[str, _State | None] = {}
        seen = 0
        for key in keys:
            if len(wanted) == most:
                break
            seen += 1
            if key not in absent:
                taken.stored.append(key)
            elif key not in states:
                wanted[key] = None
            elif self._may_take(key, state := tuple(states[key][0]), states[key][1]):  # type: ignore[arg-type]
                wanted[key] = state  # type: ignore[assignment]
            else:
                taken.others.append(key)
        if wanted:
            self._compare_and_set(store, wanted, taken)
        return seen

    def _may_take(self, key: str, state: _State, left: float) -> bool:
        """Whether a claim may be taken from its owner."""
        if state[0] == self.owner or has_ended(state[0]):
            return True
        now = self._clock()
        seen, since = self._seen.get(key, (None, now))
        if seen != state:
            since = now
        self._seen[key] = (state, since)
        return not 0 < left <= LONGEST_LEASE and now - since >= self.lease / 2

    def _compare_and_set(self, store: "Store", wanted: dict[str, _State | None], taken: Taken) -> None:
        start, backend = self._clock(), store.backend

        def claim() -> tuple[dict[str, int], set[str]]:
            mine = backend.claim_many(wanted, self.owner, self.lease)
            # Stored between our look and the claim? With the claim in hand the answer stays true.
            stored = backend.known(list(mine))
            for key in sorted(stored):
                backend.release_claim(key, self.owner, mine.pop(key))
            return mine, stored

        with self._lock:
            mine, stored = backend.whole(claim)
            if not self._held:
                self._sure_until = start + self.lease
            self._held |= mine
        for key in wanted:
            self._seen.pop(key, None)
            (taken.mine if key in mine else taken.stored if key in stored else taken.others).append(key)

    def holds(self, key: str) -> bool:
        """Whether a key is still claimed; asks the store if the lease may have run out unnoticed."""
        if self._clock() >= self._sure_until:
            self.renew()
        return key in self._held

    def renew(self) -> int:
        """Let all claims last for another lease; how many there are. Lost ones are forgotten."""
        with self._lock:
            start, store = self._clock(), self._existing()
            if store is None:
                self._held.clear()
                return 0
            backend = store.backend
            if backend.renew_claims(self.owner, self.lease) != len(self._held):
                owned = backend.claims_of(self.owner)
                lost = [key for key, token in self._held.items() if owned.get(key) != token]
                for key in lost:
                    del self._held[key]
                log.debug("%d claims were lost to others", len(lost))
            self._sure_until = start + self.lease
            return len(self._held)

    def put(self, blobs: Sequence[tuple[str, Blob]]) -> list[str]:
        """Store values and give their claims back, in one transaction.

        Returns
        -------
        list of str
            Keys that had a value already; that one stays.
        """
        store, keys = self._store(), [key for key, _ in blobs]

        def put() -> set[str]:
            # In order of the keys: two that store the same ones never wait for each other in a ring.
            late = {key for key, blob in sorted(blobs, key=_key_of) if not store.put_new(key, blob)}
            self._release(store, keys)
            return late

        with self._lock, self._around(store, keys):
            late = store.backend.whole(put)
            self._forget(keys)
        return [key for key in keys if key in late]

    def release(self, keys: Sequence[str] | None = None) -> None:
        """Give claims back; all of them by default."""
        with self._lock:
            if self._held and (store := self._existing()) is not None:
                if keys is None:
                    store.backend.release_claims(self.owner)
                else:
                    store.backend.whole(lambda: self._release(store, keys))
            self._forget(list(self._held) if keys is None else keys)

    def _release(self, store: "Store", keys: Sequence[str]) -> None:
        for key in sorted(keys):
            if key in self._held:
                store.backend.release_claim(key, self.owner, self._held[key])

    def _forget(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._held.pop(key, None)

    @property
    def store(self) -> "Store | None":
        """The store whose keys are claimed, None if it is not there (any more)."""
        return self._existing()

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Renew in a thread of its own while the block runs, however long one calculation takes."""
        stop = threading.Event()
        thread = threading.Thread(target=self._keep, args=(stop,), name="ampstore-claims", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _keep(self, stop: threading.Event) -> None:
        while not stop.wait(self.lease / 4):
            try:
                if self._held:
                    self.renew()
            except StoreError as err:  # the next round, or `holds`, tries again
                log.warning("claims could not be renewed: %s", err)


def _key_of(pair: tuple[str, Blob]) -> str:
    return pair[0]
