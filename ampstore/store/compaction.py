"""Storing what is there in less space: a recipe for each kind of values, then row by row.

    survey   kinds, sizes, some ids of each     one pass, no payloads
    choose   a recipe for each kind             see ampstore.codec.recoding; seconds and megabytes
    rewrite  rows that another recipe made      chunks of at most 1000 rows or 32 MB, one commit each
    vacuum   give free space back

Others may read and write meanwhile: a row is rewritten only if it still has the value that was read,
and reads as before when a process is killed anywhere, after which the next call goes on. A dictionary is
stored in the same transaction as the first rows that need it. Those that no row needed when the
compaction began go, so that whoever read a row before still finds what it needs.

What was chosen is noted in the store. Rows that were written before the last compaction are not tried
again unless the recipe for their kind has changed.
"""

import json
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ampstore.backend import Recoded, Trained
from ampstore.codec import Codec
from ampstore.codec.dictionaries import Dictionary
from ampstore.codec.naming import VECTORS
from ampstore.codec.recoding import Recipe, choose, shuffled
from ampstore.errors import CodecError, ReadOnlyError, StoreError
from ampstore.late import late_logger

if TYPE_CHECKING:
    from ampstore.backend import Backend

log = late_logger(__name__)

NOTE = "compacted"
"""Fact in a store: when it was compacted, and the recipe for each kind."""

BATCH_ROWS = 1000
BATCH_BYTES = 32 << 20
MOST_FAMILIES = 64
MOST_SAMPLES = 400
BYTES_OF_SAMPLES = 4 << 20  # of one family
LEVELS = range(1, 23)
OTHER = "other"
_NUMBER = re.compile(r"\b\d+\b")

Progress = Callable[[int, int], None]
"""Called with the entries done and all there are."""


@dataclass
class Gain:
    """What became of the values of one kind.

    Attributes
    ----------
    kind : str
        As in `select kind from entry`, with n for lengths.
    codec : str
        What made their streams: "columns1".
    entries, rewritten : int
    before, after : int
        Bytes of their payloads.
    level : int
        zstd level that was chosen.
    dictionary : int
        Id of the dictionary that was chosen, 0 for none.
    """

    kind: str
    codec: str
    entries: int = 0
    rewritten: int = 0
    before: int = 0
    after: int = 0
    level: int = 0
    dictionary: int = 0


@dataclass
class Compaction:
    """What a compaction did.

    Attributes
    ----------
    before, after : int
        Bytes on disk.
    kinds : list of Gain
        The largest first.
    damaged : int
        Entries that were left alone because they are damaged; `ampstore verify` names them.
    dropped : int
        Dictionaries that no entry needed any more.
    seconds : float
    """

    before: int = 0
    after: int = 0
    kinds: list[Gain] = field(default_factory=list)
    damaged: int = 0
    dropped: int = 0
    seconds: float = 0.0

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


class _Surveyed(NamedTuple):
    id: int
    codec: str
    kind: str
    size: int
    stored: int
    written_at: float

    @property
    def family(self) -> tuple[str, str]:
        """What makes the stream, and the kind without its lengths."""
        return self.codec.partition("+")[0], _NUMBER.sub("n", self.kind)


class _Family:
    """Values of one kind: how many, how large, some of them, and what is best for them."""

    def __init__(self, codec: str, kind: str) -> None:
        self.gain = Gain(kind, codec)
        self.size = 0
        self.sample: list[int] = []
        self.recipe = Recipe(0)
        self.tried_until = 0.0

    @property
    def name(self) -> str:
        return f"{self.gain.codec} {self.gain.kind}"

    def count(self, row: _Surveyed, rng: random.Random) -> None:
        gain = self.gain
        gain.entries += 1
        gain.before += row.stored
        gain.after += row.stored
        self.size += row.size
        if len(self.sample) < MOST_SAMPLES:
            self.sample.append(row.id)
        elif (place := rng.randrange(gain.entries)) < MOST_SAMPLES:
            self.sample[place] = row.id


def compact(backend: "Backend", codec: Codec, level: int | None = None, progress: Progress | None = None) -> Compaction:
    """Store everything in less space, and give the free space back to the file system.

    Parameters
    ----------
    level : int, optional
        zstd level for all kinds, 1 to 22; else for each the highest that pays for its time.
    progress : callable, optional
        Called with the entries done and all there are.

    Raises
    ------
    ValueError
        If there is no such level.
    ReadOnlyError
    StoreError
        Inside a batch.
    """
    if level is not None and level not in LEVELS:
        raise ValueError(f"zstd has the levels {LEVELS.start} to {LEVELS.stop - 1}, not {level!r}")
    if backend.readonly:
        raise ReadOnlyError(backend.location)
    if backend.in_transaction:
        raise StoreError(backend.location, "compact runs for itself, not inside a batch; leave the batch first")
    began, clock = time.time(), time.perf_counter()
    report = Compaction(before=backend.stored_bytes())
    if backend.dictionaries():
        report.dropped = backend.drop_dictionaries()
    work = _Work(backend, codec, report)
    work.survey()
    work.choose(level)
    work.rewrite(progress)
    work.note(began)
    backend.compact()
    report.after = backend.stored_bytes()
    report.seconds = time.perf_counter() - clock
    log.info("%s: compacted from %d to %d bytes", backend.location, report.before, report.after)
    return report


class _Work:
    def __init__(self, backend: "Backend", codec: Codec, report: Compaction) -> None:
        self.backend, self.codec, self.report = backend, codec, report
        self.last = backend.last_id()
        self.families: dict[tuple[str, str], _Family] = {}
        self.batch: list[tuple[_Family, Recoded, int]] = []

    def _survey(self) -> Iterator[list[_Surveyed]]:
        after = 0
        while chunk := self.backend.survey(after, self.last):
            after = chunk[-1][0]
            yield [_Surveyed(*row) for row in chunk]

    def _family(self, row: _Surveyed) -> _Family:
        codec, kind = row.family
        found = self.families.get((codec, kind))
        if found is None and len(self.families) >= MOST_FAMILIES:
            kind = OTHER
            found = self.families.get((codec, kind))
        if found is None:
            found = self.families[codec, kind] = _Family(codec, kind)
        return found

    def survey(self) -> None:
        """Count, and draw samples."""
        rng = random.Random(self.last)  # noqa: S311 - no secret
        for chunk in self._survey():
            for row in chunk:
                self._family(row).count(row, rng)
        families = sorted(self.families.values(), key=lambda family: -family.gain.before)
        self.report.kinds = [family.gain for family in families]

    def choose(self, level: int | None) -> None:
        """Find the best recipe for each family."""
        at, noted = self._noted()
        for family in self.families.values():
            incumbent = noted.get(family.name)
            known = [incumbent] if incumbent else []
            planes = family.gain.codec == VECTORS
            family.recipe = choose(shuffled(self._samples(family)), family.size, known, level, planes)
            if incumbent and family.recipe.key() == incumbent.key():
                family.tried_until = at
            family.gain.level = family.recipe.level
            family.gain.dictionary = family.recipe.key()[2]

    def _samples(self, family: _Family) -> list[bytes]:
        samples, size = list[bytes](), 0
        for number in family.sample:
            for row in self.backend.rows(number - 1, number):
                try:
                    samples.append(self.codec.unpack(*row[1:]))
                except CodecError:
                    continue
                size += len(samples[-1])
            if size > BYTES_OF_SAMPLES:
                break
        return samples

    def rewrite(self, progress: Progress | None) -> None:
        """Give rows the payloads that the recipes of their families make."""
        done, total = 0, sum(gain.entries for gain in self.report.kinds)
        for chunk in self._survey():
            chosen = {row.id: (row, self._family(row)) for row in chunk}
            chosen = {number: (row, family) for number, (row, family) in chosen.items() if self._may_gain(row, family)}
            if chosen:
                self._rewrite_some(chosen)
            done += len(chunk)
            if progress:
                progress(min(done, total), total)
        self._flush()

    def _may_gain(self, row: _Surveyed, family: _Family) -> bool:
        return bool(family.recipe.level) and row.written_at >= family.tried_until

    def _rewrite_some(self, chosen: dict[int, tuple[_Surveyed, _Family]]) -> None:
        after, last = min(chosen) - 1, max(chosen)
        while rows := self.backend.rows(after, last):
            after = rows[-1][0]
            for number, key, codec, size, checksum, payload in rows:
                if number not in chosen:
                    continue
                surveyed, family = chosen[number]
                if surveyed.codec.partition("+")[0] != codec.partition("+")[0]:
                    continue  # another value by now
                try:
                    made = self.codec.recoded(key, codec, size, checksum, payload, family.recipe)
                except CodecError as err:
                    self.report.damaged += 1
                    log.warning("%s: %s", self.backend.location, err)
                    continue
                if made[0] != codec or made[2] != payload:
                    saved = len(payload) - len(made[2])
                    self.batch.append((family, Recoded(*made, number, checksum, codec), saved))
                    self._flush(BATCH_ROWS, BATCH_BYTES)

    def _flush(self, rows: int = 1, size: int = 0) -> None:
        """Commit what is waiting, if it is that much."""
        waiting = self.batch
        if len(waiting) < rows and sum(len(row.payload) for _, row, _ in waiting) < size:
            return
        if not waiting:
            return
        self.batch = []
        now = time.time()
        needed = {family.name: family for family, row, _ in waiting if ":" in row.codec}
        dictionaries = [
            Trained(one.recipe.dictionary.number, one.gain.kind, now, one.recipe.dictionary.data)
            for one in needed.values()
            if one.recipe.dictionary
        ]
        changed = self.backend.recode([row for _, row, _ in waiting], dictionaries)
        for family, row, saved in waiting:
            if row.id in changed:
                family.gain.rewritten += 1
                family.gain.after -= saved

    def _noted(self) -> tuple[float, dict[str, Recipe]]:
        """When the store was compacted before, and the recipes that were chosen then and can still be made."""
        try:
            noted = json.loads(self.backend.info_get(NOTE) or "{}")
            chosen = {name: self._recipe(*recipe) for name, recipe in noted["recipes"].items()}
            return float(noted["at"]), {name: recipe for name, recipe in chosen.items() if recipe}
        except (ValueError, TypeError, KeyError, AttributeError):
            return 0.0, {}

    def _recipe(self, level: int, planes: bool, number: int) -> Recipe | None:
        data = self.backend.dictionary(number) if number else None
        if number and data is None:
            return None
        return Recipe(int(level), bool(planes), Dictionary(data) if data else None)

    def note(self, at: float) -> None:
        """Remember what was chosen."""
        recipes = {family.name: family.recipe.key() for family in self.families.values()}
        if recipes:
            self.backend.info_put(NOTE, json.dumps({"at": at, "recipes": recipes}))
