"""Data for programs that expect Amp's random numbers.

Amp divides the missing images among its workers at random, by NumPy's global stream, and draws the first weights
of a network from the same stream afterwards. ampstore hands out work on request and needs no division, but
draws the same numbers: so a seeded script begins with the same weights and ends with the same loss.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ampstore import data
from ampstore.data import Failure


class Data(data.Data):
    """As `ampstore.Data`, whose documentation it shares, in a program of Amp."""

    def calculate_items(
        self,
        images: Mapping[str, object],
        parallel: Mapping[str, object] | None = None,
        log: Callable[..., object] | None = None,
        **options: Any,
    ) -> list[Failure]:
        """Calculate and store what is missing; the global stream of NumPy moves on where Amp's would."""
        if _is_divided(parallel) and isinstance(images, Mapping):
            import numpy

            numpy.random.shuffle(self._missing(images))
        return super().calculate_items(images, parallel, log, **options)


def _is_divided(parallel: object) -> bool:
    return isinstance(parallel, Mapping) and parallel.get("cores", 1) != 1
