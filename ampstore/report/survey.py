"""The numbers of a report, by one pass over the list of entries in constant memory; no payload is read."""

import heapq
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

LARGEST = 15
GROUPS = 12
BUCKETS = 200

Listed = tuple[str, str, int, int, str, float]
"""key, kind, bytes, stored bytes, codec, time of writing."""


@dataclass
class Group:
    """Entries of one kind: "list of 37 (symbol, float64[20])" and the like, their numbers left out.

    Attributes
    ----------
    entries, size, stored : int
        How many, bytes before compression, bytes of payload.
    """

    entries: int = 0
    size: int = 0
    stored: int = 0

    @property
    def ratio(self) -> float:
        """Bytes before over bytes after compression."""
        return self.size / self.stored if self.stored else 0.0


@dataclass
class Survey:
    """What a pass over the entries found.

    Attributes
    ----------
    total : Group
    groups : dict of str to Group
        By kind, the largest first; the last may be "other kinds".
    codecs : Counter
        Entries by codec.
    largest : list of Listed
    growth : list of (time, entries, stored bytes)
        How many there were up to a time (seconds since 1970), of those that are there now.
    """

    total: Group = field(default_factory=Group)
    groups: dict[str, Group] = field(default_factory=dict)
    codecs: Counter[str] = field(default_factory=Counter)
    largest: list[Listed] = field(default_factory=list)
    growth: list[tuple[float, int, int]] = field(default_factory=list)


def survey(entries: Iterable[Listed]) -> Survey:
    """Numbers of all entries of a listing."""
    found, times = Survey(), _Times()
    found.largest = heapq.nlargest(LARGEST, _counted(entries, found, times), key=lambda entry: entry[3])
    found.groups = _largest_groups(found.groups)
    found.growth = times.growth()
    return found


def _counted(entries: Iterable[Listed], found: Survey, times: "_Times") -> Iterator[Listed]:
    for entry in entries:
        _, kind, size, stored, codec, written = entry
        for group in (found.total, found.groups.setdefault(family(kind), Group())):
            group.entries += 1
            group.size += size
            group.stored += stored
        found.codecs[codec] += 1
        times.add(written, stored)
        yield entry


def family(kind: str) -> str:
    """A kind without its numbers, so that cells of all sizes are one kind."""
    return re.sub(r"(?<![a-z0-9])\d+", "n", kind)


def _largest_groups(groups: dict[str, Group]) -> dict[str, Group]:
    ordered = sorted(groups.items(), key=lambda item: item[1].stored, reverse=True)
    kept, rest = dict(ordered[:GROUPS]), Group()
    for _, group in ordered[GROUPS:]:
        rest.entries += group.entries
        rest.size += group.size
        rest.stored += group.stored
    return {**kept, "other kinds": rest} if rest.entries else kept


class _Times:
    """Entries and bytes by time, in buckets that double their width when there are too many."""

    def __init__(self) -> None:
        self._width = 1.0
        self._buckets: dict[int, list[int]] = {}

    def add(self, moment: float, stored: int) -> None:
        bucket = self._buckets.setdefault(int(moment / self._width), [0, 0])
        bucket[0] += 1
        bucket[1] += stored
        while len(self._buckets) > BUCKETS:
            self._widen()

    def _widen(self) -> None:
        self._width *= 2
        wider: dict[int, list[int]] = {}
        for number, (entries, stored) in self._buckets.items():
            bucket = wider.setdefault(number // 2, [0, 0])
            bucket[0] += entries
            bucket[1] += stored
        self._buckets = wider

    def growth(self) -> list[tuple[float, int, int]]:
        found: list[tuple[float, int, int]] = []
        entries = stored = 0
        for number in sorted(self._buckets):
            if not found:
                found.append((number * self._width, 0, 0))
            entries += self._buckets[number][0]
            stored += self._buckets[number][1]
            found.append(((number + 1) * self._width, entries, stored))
        return found
