"""Claims among hosts that share no database: one file for each key, made with O_EXCL.

    spool/claims/9f86d081…       "host:pid:…"   whoever made it computes the key
    spool/claims/alive-5d41…     a heartbeat of that owner, one for all its claims

The rules are those of `ampstore.store.claims`: the claim of a process of this machine that has ended is free at
once; any other when its owner's heartbeat was the same for a whole lease, by the clock of the one who asks. Who
takes such a claim away holds the container's lease meanwhile, so that nobody takes a fresh one by mistake.

What is weaker than in a database: two results for one key may both be stored, if one comes from an owner who was
silent for longer than its lease. The later one stays.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ampstore.codec import Blob
from ampstore.durable import make_directory
from ampstore.late import late_logger
from ampstore.legacy.loose import file_errors
from ampstore.owner import has_ended
from ampstore.spooled.store import SpooledStore
from ampstore.store import Store
from ampstore.store.claims import Claims, Taken

log = late_logger(__name__)

DIRECTORY = "claims"
_ALIVE = "alive-"
Around = Callable[[SpooledStore, Sequence[str]], contextlib.AbstractContextManager[None]]


class SpooledClaims(Claims):
    """The claims of one owner in one container whose file system several hosts share.

    Parameters
    ----------
    spooled : callable
        Returns the container's store; asked every time, as it can be removed and made anew.
    lease : float
        Seconds, 0 < lease <= 3600; the same for all who share the container.
    around : callable
        Context manager around storing values; gets the store and the keys.
    """

    def __init__(self, spooled: Callable[[], SpooledStore], lease: float, around: Around) -> None:
        super().__init__(_no_database, lease)
        self._spooled = spooled
        self._around_put = around
        self._beats = 0
        self._beat_seen: dict[str, tuple[tuple[bytes, int] | None, float]] = {}

    def take(self, keys: Sequence[str], most: int) -> Taken:
        """Claim up to `most` of the keys, looking at them in their order."""
        taken, seen = Taken([], [], [], 0), 0
        self.renew()
        while seen < len(keys) and len(taken.mine) < most:
            room = most - len(taken.mine)
            group = keys[seen : seen + max(16, 2 * room)]
            seen += self._take_files(group, room, taken)
        return taken._replace(seen=seen)

    def _take_files(self, keys: Sequence[str], most: int, taken: Taken) -> int:
        absent = set(self._spooled().missing(keys))
        made, seen = list[str](), 0
        with self._lock:
            for key in keys:
                if len(made) == most:
                    break
                seen += 1
                if key not in absent:
                    taken.stored.append(key)
                elif self._make(key):
                    made.append(key)
                else:
                    taken.others.append(key)
            # Stored between our look and the claim? With the claim in hand the answer stays true.
            free = set(self._spooled().missing(made))
            self._held |= dict.fromkeys(made, 1)
            self.release([key for key in made if key not in free])
        taken.mine.extend(key for key in made if key in free)
        taken.stored.extend(key for key in made if key not in free)
        return seen

    def holds(self, key: str) -> bool:
        """Whether a key is still claimed; looks at its file if the lease may have run out unnoticed."""
        if self._clock() >= self._sure_until:
            self.renew()
        return key in self._held

    def renew(self) -> int:
        """Send a heartbeat; how many claims there are. Lost ones are forgotten."""
        with self._lock:
            start = self._clock()
            with file_errors(self._directory, "renewed"):
                self._beat()
                if start >= self._sure_until:
                    self._forget([key for key in self._held if self._owner_of(key) != self.owner])
            self._sure_until = start + self.lease
            return len(self._held)

    def put(self, blobs: Sequence[tuple[str, Blob]]) -> list[str]:
        """Store values and give their claims back; keys that had a value already, which stays."""
        store, keys = self._spooled(), [key for key, _ in blobs]
        with self._lock, self._around_put(store, keys):
            absent = set(store.missing(keys))
            store.put_blobs((key, blob) for key, blob in blobs if key in absent)
            self.release([key for key in keys if key in self._held])
        return [key for key in keys if key not in absent]

    def release(self, keys: Sequence[str] | None = None) -> None:
        """Give claims back; all of them, and the heartbeat, by default."""
        with self._lock:
            mine = list(self._held) if keys is None else [key for key in keys if key in self._held]
            if self._clock() >= self._sure_until:
                self.renew()  # some may belong to others by now
            for key in mine:
                if key in self._held:
                    _unlink(self._path(key))
            self._forget(mine)
            if keys is None:
                _unlink(self._heart(self.owner))

    @property
    def store(self) -> Store | None:
        """None: nothing but entries can be noted without a maintainer."""
        return None

    # -- files ---------------------------------------------------------------------------------

    @property
    def _directory(self) -> Path:
        return self._spooled().spool.directory / DIRECTORY

    def _path(self, key: str) -> Path:
        return self._directory / _digest(key)

    def _heart(self, owner: str) -> Path:
        return self._directory / f"{_ALIVE}{_digest(owner)}"

    def _beat(self) -> None:
        make_directory(self._directory)
        self._beats += 1
        descriptor = os.open(self._heart(self.owner), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        with open(descriptor, "wb", buffering=0) as file:
            file.write(f"{self._beats:012}".encode())

    def _make(self, key: str) -> bool:
        """Whether the claim is ours; taken from its owner if that one is dead."""
        with file_errors(self._directory, "written"):
            if self._create(key):
                return True
            owner = self._owner_of(key)
            if owner == self.owner:
                return True
            return owner is not None and self._is_dead(owner) and self._break(key, owner) and self._create(key)

    def _create(self, key: str) -> bool:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(self._path(key), flags, 0o666)
        except FileExistsError:
            return False
        with open(descriptor, "wb", buffering=0) as file:
            file.write(self.owner.encode())
        return True

    def _break(self, key: str, owner: str) -> bool:
        """Remove the claim of a dead owner, as the only one among all hosts who does such things now."""
        lease = self._spooled().lease
        if not lease.try_acquire():
            return False
        try:
            if self._owner_of(key) != owner:
                return False
            lease.check()
            _unlink(self._path(key))
            return True
        finally:
            lease.release()

    def _owner_of(self, key: str) -> str | None:
        """Owner of a claim; None if there is none."""
        found = _content(self._path(key))
        return None if found is None else found[0].decode(errors="replace")

    def _is_dead(self, owner: str) -> bool:
        if has_ended(owner):
            return True
        beat, now = _content(self._heart(owner)), self._clock()
        seen, since = self._beat_seen.get(owner, (None, now))
        if owner not in self._beat_seen or seen != beat:
            since = now
        self._beat_seen[owner] = (beat, since)
        return now - since > self.lease


def claimed(spooled: SpooledStore) -> int:
    """How many keys are claimed by anybody, the dead included: one look at the directory."""
    directory = spooled.spool.directory / DIRECTORY
    with file_errors(directory, "read"):
        try:
            return sum(not name.startswith(_ALIVE) for name in os.listdir(directory))
        except FileNotFoundError:  # nobody ever claimed a key
            return 0


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:40]


def _content(path: Path) -> tuple[bytes, int] | None:
    try:
        with open(path, "rb") as file:
            return file.read(4096), os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None


def _unlink(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _no_database() -> Store:
    raise NotImplementedError("these claims are files")
