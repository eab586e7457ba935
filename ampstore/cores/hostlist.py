"""Compressed lists of hosts: `n[08-10,20],r[1-2]c[1-4]`.

ClusterShell expands the ranges, one at a time: given more of them it sorts, and SLURM's other lists are in
the order of this one. Sizes are known before anything is expanded.
"""

import re
from collections.abc import Iterator
from itertools import product
from math import prod

from ampstore.cores.job import MOST_HOSTS, checked, shown
from ampstore.errors import AllocationError

_ELEMENT = re.compile(r"(?:[^\[\],\s]|\[[^\[\]\s]*\])+")
_BRACKET = re.compile(r"\[([^\]]*)\]")
_RANGE = re.compile(r"([0-9]{1,15})(?:-([0-9]{1,15}))?")


def expand(text: str, variable: str) -> list[str]:
    """Names of a compressed list, in its order.

    Raises
    ------
    AllocationError
        If it is no such list, is longer than anyone's cluster, or has ranges and ClusterShell is not
        installed.
    """
    elements = _ELEMENT.findall(text)
    if not elements or ",".join(elements) != text:
        raise AllocationError(variable, f"{shown(text)} is no list of hosts")
    size = 0
    for element in elements:
        size += prod(_size(bracket, variable) for bracket in _BRACKET.findall(element))
        if size > MOST_HOSTS:
            raise AllocationError(variable, f"{shown(text)} stands for more than {MOST_HOSTS:,} hosts")
    return [checked(host, variable) for element in elements for host in _names(element, variable)]


def _size(bracket: str, variable: str) -> int:
    """How many numbers stand in a bracket."""
    size = 0
    for part in bracket.split(","):
        match = _RANGE.fullmatch(part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise AllocationError(variable, f"{shown(part)} is no range of hosts")
        size += int(match[2] or match[1]) - int(match[1]) + 1
    return size


def _names(element: str, variable: str) -> Iterator[str]:
    first, *pieces = _BRACKET.split(element)
    numbers = [list(_numbers(bracket, variable)) for bracket in pieces[::2]]
    for choice in product(*numbers):
        yield first + "".join(number + text for number, text in zip(choice, pieces[1::2], strict=True))


def _numbers(bracket: str, variable: str) -> Iterator[str]:
    for part in bracket.split(","):
        if "-" not in part:
            yield part
            continue
        try:
            from ClusterShell.RangeSet import RangeSet
        except ImportError:
            raise AllocationError(
                variable, f"ranges such as {shown(part)} need ClusterShell: pip install 'ampstore[parallel]'"
            ) from None
        yield from map(str, RangeSet(part).striter())
