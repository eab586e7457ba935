"""A container in the legacy layout: its two tiers, and `LegacyDatabase`, the mapping on them.

    get  k --> loose > archive
    set  k --> loose, atomically
    archive()  loose + archive --> new archive, then the loose files that did not change go
"""

import logging
import os
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Self

from ampstore.codec import Allowed, Rule, dump_legacy, load_legacy
from ampstore.errors import CodecError, KeyTypeError, MissingStoreError
from ampstore.legacy.archive import Archive, write_archive
from ampstore.legacy.loose import Loose, Stamp
from ampstore.legacy.names import Problem, check_name, reason_against

log = logging.getLogger(__name__)

SUFFIX = ".ampdb"


def container_path(filename: str | os.PathLike[str]) -> Path:
    """Directory of a container: the suffix .ampdb is added unless it is there, as Amp does."""
    path = Path(os.path.abspath(filename))
    return path if path.name.endswith(SUFFIX) else path.with_name(path.name + SUFFIX)


class Container:
    """The legacy tiers of one container directory.

    Parameters
    ----------
    directory : Path
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.loose = Loose(directory / "loose")
        self.archive = Archive(directory / "archive.tar.gz")

    def names(self) -> list[str]:
        """Names of all entries, those of the archive first."""
        return list(dict.fromkeys([*self.archive.members(), *self.loose.names()]))

    def read(self, name: str) -> bytes | None:
        """Bytes of an entry, loose before archive."""
        if reason_against(name):
            return None
        found = self.loose.read(name)
        return found[0] if found else self.archive.read(name)

    def problems(self) -> list[Problem]:
        """What is in the container and holds no entry."""
        return [*self.loose.problems(), *self.archive.problems()]

    def size(self) -> int:
        """Bytes of all files of both tiers."""
        stamps = (self.loose.stamp(name) for name in self.loose.names())
        return self.archive.size() + sum(stamp.size for stamp in stamps if stamp)


class LegacyDatabase(MutableMapping[str, object]):
    """The pure legacy layout, written so that nothing is torn and real Amp reads it.

    Every set is one atomic, synced file; `archive` replaces the archive by rename. Safe for many
    processes; `archive` should run in one. Values are pickled with protocol 2, which Amp on
    Python 2 and 3 reads, and NumPy's types under the names that NumPy 1 has.

    Parameters
    ----------
    filename : str or path-like
        With or without ".ampdb".
    allow : iterable of str or "*"
        As in `Store`.
    """

    def __init__(self, filename: str | os.PathLike[str], *, allow: Allowed = ()) -> None:
        self.path = container_path(filename)
        self.rule = Rule(allow)
        self._tiers = Container(self.path)

    @classmethod
    def open(cls, filename: str | os.PathLike[str], flag: str | None = None) -> Self:
        """Open a database; the flag is ignored, as in Amp."""
        return cls(filename)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing to do: every write is durable. Here for programs that call it."""

    def __getitem__(self, key: str) -> object:
        data = self._tiers.read(key) if isinstance(key, str) else None
        if data is None:
            raise KeyError(key)
        return load_legacy(key, data, self.rule)

    def __setitem__(self, key: str, value: object) -> None:
        if not isinstance(key, str):
            raise KeyTypeError(key)
        check_name(key)
        data = dump_legacy(value, self.rule)
        if not self.path.parent.is_dir():
            raise MissingStoreError(str(self.path), f"there is no directory {self.path.parent}; create it first")
        self._tiers.loose.write(key, data)

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        # Archive first: the other order would show the archived value for a moment.
        if key in self._tiers.archive:
            self._rewrite_archive({}, without=key)
        self._tiers.loose.remove(key)

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, str) or reason_against(key):
            return False
        return self._tiers.loose.stamp(key) is not None or key in self._tiers.archive

    def __iter__(self) -> Iterator[str]:
        return iter(self._tiers.names())

    def __len__(self) -> int:
        return len(self._tiers.names())

    def keys(self) -> list[str]:  # type: ignore[override]
        """List of all keys."""
        return self._tiers.names()

    def values(self) -> list[object]:  # type: ignore[override]
        """List of all values, in the order of `keys`."""
        return [self[key] for key in self.keys()]

    def archive(self) -> int:
        """Pack everything into archive.tar.gz; how many loose files went.

        Files that hold no entry stay where they are.
        """
        packed = {name: stamp for name in self._tiers.loose.names() if (stamp := self._sound(name))}
        self._rewrite_archive(packed)
        return sum(self._tiers.loose.remove_unchanged(name, stamp) for name, stamp in packed.items())

    def _sound(self, name: str) -> Stamp | None:
        """Stamp of a loose file that holds a value."""
        found = self._tiers.loose.read(name)
        if not found:
            return None
        try:
            load_legacy(name, found[0], self.rule)
        except CodecError as err:
            log.warning("%s: left in loose/: %s", self.path, err)
            return None
        return found[1]

    def _rewrite_archive(self, packed: Mapping[str, Stamp], without: str | None = None) -> None:
        archive, loose = self._tiers.archive, self._tiers.loose

        def entries() -> Iterator[tuple[str, bytes, float]]:
            for name, member in archive.members().items():
                if name != without and name not in packed:
                    yield name, archive.read(name) or b"", member.mtime
            for name, stamp in packed.items():
                found = loose.read(name)
                if found and found[1] == stamp:
                    yield name, found[0], stamp.mtime_ns / 1e9

        (self.path / "loose").mkdir(parents=True, exist_ok=True)
        write_archive(archive.path, entries())
