"""How the values of one kind are stored best, found by measuring some of them; and storing them so.

    streams of one kind --half of them--> dictionary (or one that the store has)
                        --the others----> sizes and speeds of what could be done --> Recipe
    stream --planes, where it pays--> --zstd, where it pays--> payload

What pays for one kind does not for another: a dictionary halves neighbour lists and does nothing for
derivatives; byte planes help small fingerprints; level 19 takes 10 to 100 times as long for some per
cent. The stream stays the same, so the digest of a value does, and equal values stay equal.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from ampstore.codec.columns.layout import planes, unplanes
from ampstore.codec.compress import compress
from ampstore.codec.dictionaries import Dictionary, train
from ampstore.codec.naming import Name

LEVELS = (3, 9, 15, 19)
SECONDS = 20.0  # that all values of a kind may take, on one core
PATIENCE = 0.25  # seconds for one measurement
FEWEST_TO_TRAIN = 16
SIZES = (4 << 10, 16 << 10, 64 << 10)
BYTES_TO_TRAIN = 2 << 20
LEAST_GAIN = 0.03  # of the bytes, that makes up for the time or for one more dictionary
NUMBER = 8  # bytes of a number in planes


class Recipe(NamedTuple):
    """How payloads are made of streams.

    Attributes
    ----------
    level : int
        zstd level, 0 for none at all.
    planes : bool
        Whether numbers of 8 bytes are laid out as byte planes before.
    dictionary : Dictionary or None
    """

    level: int
    planes: bool = False
    dictionary: Dictionary | None = None

    def payload(self, base: str, stream: bytes) -> tuple[Name, bytes]:
        """Payload of a stream, and the name of the codec that it has then."""
        packed = self._packed(stream)
        if not self.level or len(packed) > len(stream) * (1 - LEAST_GAIN):
            return Name(base, False, False, 0), stream
        return Name(base, self.planes, True, self.dictionary.number if self.dictionary else 0), packed

    def size(self, stream: bytes) -> int:
        """Bytes of the payload."""
        return len(self.payload("", stream)[1])

    def _packed(self, stream: bytes) -> bytes:
        if not self.level:
            return stream
        data = to_planes(stream) if self.planes else stream
        return self.dictionary.compress(data, self.level) if self.dictionary else compress(data, self.level)

    def key(self) -> tuple[int, bool, int]:
        """What tells recipes apart, for notes."""
        return self.level, self.planes, self.dictionary.number if self.dictionary else 0


def to_planes(stream: bytes) -> bytes:
    """First the bytes that are over, then the others as planes of numbers of 8 bytes."""
    over = len(stream) % NUMBER
    return stream[:over] + planes(stream[over:], NUMBER)


def from_planes(data: bytes) -> bytes:
    """The stream that `to_planes` rearranged."""
    over = len(data) % NUMBER
    return data[:over] + bytes(unplanes(data[over:], NUMBER))


def choose(
    samples: Sequence[bytes],
    total: int,
    known: Sequence[Recipe] = (),
    level: int | None = None,
    with_planes: bool = False,
) -> Recipe:
    """Best recipe for streams like these, in bounded time and memory.

    Parameters
    ----------
    samples : sequence of bytes
        Streams, in random order.
    total : int
        Bytes of all streams of the kind.
    known : sequence of Recipe
        What the store uses for this kind already; it stays unless another one is clearly better.
    level : int, optional
        The level to use, instead of the best for which there is time.
    with_planes : bool
        Whether planes may pay: the stream is mostly numbers of 8 bytes.
    """
    half = len(samples) // 2
    trained, judged = samples[:half], samples[half:]
    start = LEVELS[0] if level is None else level
    best = _Trial(Recipe(start), judged)
    if with_planes:
        best = best.unless(_Trial(Recipe(start, True), judged))
    dictionaries = [one.dictionary for one in known if one.dictionary and one.planes == best.recipe.planes]
    for dictionary in dictionaries:
        best = best.unless(_Trial(best.recipe._replace(dictionary=dictionary), judged))
    for dictionary in _trained(trained, best.recipe.planes, total):
        own = (len(dictionary.data) - best.dictionary_bytes) / max(best.bytes_for(total), 1)  # which it has to earn
        best = best.unless(_Trial(best.recipe._replace(dictionary=dictionary), judged), LEAST_GAIN + 2 * own)
    for higher in LEVELS[1:] if level is None else ():
        trial = _Trial(best.recipe._replace(level=higher), judged)
        if trial.seconds_for(total) > SECONDS:
            break
        best = best.unless(trial)
    for recipe in known:
        if level in (None, recipe.level) and not best.beats(_Trial(recipe, judged), LEAST_GAIN):
            return recipe
    return best.recipe


def _trained(samples: Sequence[bytes], as_planes: bool, total: int) -> Iterator[Dictionary]:
    if len(samples) < FEWEST_TO_TRAIN // 2:
        return
    ends = accumulate(map(len, samples))
    chosen = [sample for sample, end in zip(samples, ends, strict=True) if end <= BYTES_TO_TRAIN]
    data = [to_planes(sample) for sample in chosen] if as_planes else chosen
    for size in SIZES:
        if 4 * size < total and (found := train(data, size)):
            yield found


class _Trial:
    """What a recipe makes of some streams: sizes of the first ones, as many as there was time for."""

    def __init__(
        self, recipe: Recipe, samples: Sequence[bytes], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.recipe, self.sizes, self.size = recipe, list[int](), 0
        began = clock()
        for sample in samples:
            self.sizes.append(recipe.size(sample))
            self.size += len(sample)
            if clock() - began > PATIENCE:
                break
        self.seconds = clock() - began

    def seconds_for(self, total: int) -> float:
        """Time that `total` bytes of such streams would take."""
        return self.seconds / max(self.size, 1) * total

    @property
    def dictionary_bytes(self) -> int:
        """Bytes of its dictionary."""
        return len(self.recipe.dictionary.data) if self.recipe.dictionary else 0

    def bytes_for(self, total: int) -> float:
        """Bytes of payloads that `total` bytes of such streams would give."""
        return sum(self.sizes) / max(self.size, 1) * total

    def beats(self, other: "_Trial", gain: float) -> bool:
        """Whether it saves more than this part of the bytes of another recipe, on the streams that both took."""
        both = min(len(self.sizes), len(other.sizes))
        return sum(self.sizes[:both]) < sum(other.sizes[:both]) * (1 - gain)

    def unless(self, other: "_Trial", gain: float = LEAST_GAIN) -> "_Trial":
        """Whichever is better: the other one only if by `gain`."""
        return other if other.beats(self, gain) else self


def shuffled(samples: list[bytes]) -> list[bytes]:
    """In an order that has nothing to do with when they were stored, the same every time."""
    from random import Random

    Random(len(samples)).shuffle(samples)  # noqa: S311 - no secret
    return samples
