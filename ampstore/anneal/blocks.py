"""Random numbers drawn in blocks, which a checkpoint can take up in the middle of one.

NumPy gives a thousand numbers in the time that it takes to ask for one ten times. A block is not
kept in a checkpoint: the state of the generator before it was drawn is, and it is drawn again.
"""

from collections.abc import Mapping
from typing import Any

import numpy
from numpy.random import Generator

from ampstore.errors import CheckpointError

State = Mapping[str, Any]


class Uniforms:
    """Numbers in [0, 1), one after the other.

    Parameters
    ----------
    rng : numpy.random.Generator
        Where they come from; may be shared with others, which then draw what comes between blocks.
    size : int
        Numbers in a block.

    Attributes
    ----------
    left : list of float
        Those of this block that were not taken yet; take one with ``left.pop()``, after `refill` if
        there is none.
    """

    def __init__(self, rng: Generator, size: int = 1024) -> None:
        self.rng = rng
        self.size = size
        self.left: list[float] = []
        self._before: State | None = None

    def refill(self) -> list[float]:
        """Draw the next block; the list with all of it."""
        self._before = self.rng.bit_generator.state
        self.left[:] = self.rng.random(self.size).tolist()
        return self.left

    def memory(self) -> dict[str, object]:
        """Where it is, for a checkpoint."""
        return {"before": self._before, "left": len(self.left)}

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._before = memory["before"]
        drawn = [] if self._before is None else again(self.rng, self._before).random(self.size).tolist()
        self.left[:] = drawn[: memory["left"]]

    def __getstate__(self) -> dict[str, object]:
        return {"rng": self.rng, "size": self.size, **self.memory()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["rng"], state["size"])  # type: ignore[misc]
        self.recall(state)


class Rows:
    """Rows of numbers uniform within `width` of `centre`, one row for each move of a whole vector.

    Each number comes from 32 bits, half of what `Generator.random` spends on one, and is never at
    the edge: the distribution is symmetric to the last bit.

    Parameters
    ----------
    rng : numpy.random.Generator
        Where they come from; may be shared with others.
    size : int
        Numbers in a row.
    centre, width : float
        Their middle, and their largest distance from it.

    Attributes
    ----------
    left : list of (size,) float64 arrays
        Rows of this block that were not taken yet; they are overwritten by the next `refill`.
    """

    def __init__(self, rng: Generator, size: int, centre: float, width: float) -> None:
        self.rng = rng
        self.size = size
        self.centre, self.width = centre, width
        # 24 rows of 1000: more and the numbers leave the fast cache before they are used.
        self._block = numpy.empty((max(1, min(256, 24_000 // max(size, 1))), size))
        self._rows = list(self._block)
        self._before: State | None = None
        self.left: list[numpy.ndarray[Any, numpy.dtype[numpy.float64]]] = []

    def refill(self) -> list[numpy.ndarray[Any, numpy.dtype[numpy.float64]]]:
        """Draw the next block; the list with all of it."""
        self._before = self.rng.bit_generator.state
        self._draw(self.rng)
        return self.left

    def _draw(self, rng: Generator) -> None:
        flat = self._block.reshape(-1)
        half = self.width / 2**31
        numpy.copyto(flat, _words(rng, flat.size))  # whole numbers from -2**31 to 2**31 - 1
        numpy.multiply(flat, half, out=flat)
        numpy.add(flat, self.centre + half / 2, out=flat)
        self.left[:] = self._rows

    def memory(self) -> dict[str, object]:
        """Where it is, for a checkpoint."""
        return {"before": self._before, "left": len(self.left)}

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._before = memory["before"]
        self.left.clear()
        if self._before is not None:
            self._draw(again(self.rng, self._before))
            del self.left[memory["left"] :]

    def __getstate__(self) -> dict[str, object]:
        return {"rng": self.rng, "size": self.size, "centre": self.centre, "width": self.width, **self.memory()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["rng"], state["size"], state["centre"], state["width"])  # type: ignore[misc]
        self.recall(state)


_RAW_64 = {"PCG64", "PCG64DXSM", "SFC64", "Philox"}
"""Bit generators whose raw numbers are 64 random bits; those of MT19937 are 32."""


def _words(rng: Generator, count: int) -> numpy.ndarray[Any, numpy.dtype[numpy.int32]]:
    """Random 32-bit words."""
    bits: Any = rng.bit_generator
    pairs = (count + 1) // 2
    is_raw = type(bits).__name__ in _RAW_64
    drawn = bits.random_raw(pairs) if is_raw else rng.integers(0, 2**64, pairs, numpy.uint64)
    words: numpy.ndarray[Any, numpy.dtype[numpy.int32]] = drawn.view(numpy.int32)[:count]
    return words


def again(rng: Generator, state: State) -> Generator:
    """Another generator of the same kind, in the given state."""
    twin = type(rng.bit_generator)()
    set_state(twin, state)
    return Generator(twin)


def spawn(rng: Generator, count: int) -> list[Generator]:
    """Independent generators; the same ones for a generator from the same seed."""
    bits: Any = rng.bit_generator
    seeds = getattr(bits, "seed_seq", None) or bits._seed_seq  # noqa: SLF001 - public since NumPy 1.25
    return [Generator(type(bits)(seed)) for seed in seeds.spawn(count)]


def set_state(bits: Any, state: State) -> None:
    """Put a bit generator into a state.

    Raises
    ------
    CheckpointError
        If the state is that of another kind of generator.
    """
    wanted, found = type(bits).__name__, state.get("bit_generator")
    if wanted != found:
        raise CheckpointError("", f"its random numbers are of {found}, those of rng= of {wanted}")
    bits.state = state
