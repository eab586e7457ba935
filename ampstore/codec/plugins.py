"""Codecs of other packages, by the name under which they are installed.

A package declares an object with two functions as an entry point of the group `ampstore.codecs`:

    [project.entry-points."ampstore.codecs"]
    frames2 = "mypkg.frames"          # mypkg.frames.encode, mypkg.frames.decode

    encode(value) -> bytes, or None if the value is none for it
    decode(stream) -> value           the stream may be anybody's: check it

The name stands in every row, so it is never reused for another format. Nothing is loaded until a row
or the option `codecs` names it, and a name that no installed package has declared loads nothing at all.
Those of ampstore itself (`pickle5`, `columns1`, `vectors1`) cannot be taken by others.
"""

import re
from functools import lru_cache
from typing import Protocol, cast

from ampstore.codec.naming import BASE, BUILTIN

GROUP = "ampstore.codecs"


class StreamCodec(Protocol):
    """What an entry point of the group has to be: a module, an object or a class with two functions."""

    def encode(self, value: object) -> bytes | None:
        """Stream of a value, None if it is none for this codec."""

    def decode(self, stream: bytes) -> object:
        """Value of a stream, a fresh object at every call."""


@lru_cache(maxsize=64)
def load(name: str) -> StreamCodec:
    """Codec of an installed package.

    Raises
    ------
    LookupError
        If there is none of that name, or not just one, or it is no codec.
    """
    if not re.fullmatch(BASE, name) or name in BUILTIN:
        raise LookupError("which is no name for the codec of another package")
    from importlib.metadata import entry_points  # a third of the start of `ampstore ls`, and seldom needed

    found = {point.value: point for point in entry_points(group=GROUP, name=name)}
    if not found:
        raise LookupError("which no installed package provides; install the one that does, or a newer ampstore")
    if len(found) > 1:
        raise LookupError(f"which several installed packages provide ({', '.join(sorted(found))}); remove all but one")
    ((target, point),) = found.items()
    try:
        codec = point.load()
    except Exception as err:
        raise LookupError(f"whose package does not load: {target}: {type(err).__name__}: {err}") from err
    if not all(callable(getattr(codec, function, None)) for function in ("encode", "decode")):
        raise LookupError(f"but {target} has no functions encode and decode")
    return cast("StreamCodec", codec)
