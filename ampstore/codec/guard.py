"""Builders that a pickle may call but not change: what is handed out instead of the real thing."""

import pickle
from collections.abc import Callable


class Guard:
    """A builder that a stream can call but not change."""

    __slots__ = ("_build", "cls")

    def __init__(self, build: Callable[..., object] | None, cls: type | None = None) -> None:
        object.__setattr__(self, "_build", build)
        object.__setattr__(self, "cls", cls)

    def __setattr__(self, name: str, value: object) -> None:
        raise pickle.UnpicklingError("a stream tried to change a builder")

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("a stream tried to change a builder")

    def __call__(self, *arguments: object) -> object:
        """Build, with arguments that the stream gives."""
        if self._build is None:  # type: ignore[attr-defined]
            raise pickle.UnpicklingError(f"a stream called {self.cls!r}, which only names a type")  # type: ignore[attr-defined]
        return self._build(*arguments)  # type: ignore[attr-defined]


class StandIn(type):
    """Stand-in for a class written in Python: makes its instances, and that is all.

    NEWOBJ insists on a type, so a `Guard` does not do.
    """

    real: type
    build: Callable[..., object] | None

    def __call__(cls, *arguments: object) -> object:
        """Build an instance, where writers build it by a call."""
        if cls.build is None:
            raise pickle.UnpicklingError(f"a stream called {cls.real!r}, which no writer does")
        return cls.build(cls.real, *arguments)

    def __setattr__(cls, name: str, value: object) -> None:
        raise pickle.UnpicklingError("a stream tried to change a class")

    def __setstate__(cls, state: object) -> None:
        raise pickle.UnpicklingError("a stream tried to change a class")


def check(condition: bool, builder: str) -> None:
    """Refuse what no writer gives to this builder."""
    if not condition:
        raise pickle.UnpicklingError(f"arguments of {builder} that no writer gives")


def class_of(named: object) -> type:
    """Real class that a guard or stand-in on the stack of an unpickler names."""
    cls = named.cls if isinstance(named, Guard) else named  # type: ignore[attr-defined]
    check(isinstance(cls, type), "a type")
    if isinstance(cls, StandIn):
        return cls.real
    return cls  # type: ignore[return-value]
