"""The log of what was acknowledged: the only thing that the judge believes.

A worker writes `? key sha256` before a call and `! key sha256` after it returned; "-" stands for
deleted. Both lines are synced, and the file lies on another file system than the store, so that no
fault of the store's disk reaches it.

    ? "k1" 5f0c…        may be there from now on, whole
    ! "k1" 5f0c…        must be there from now on, until the next line about "k1"
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

DELETED = "-"


def digest(value: object) -> str:
    """SHA-256 of a value's contents: of types and bytes, not of a pickle, which may differ for equal values."""
    return hashlib.sha256(b"".join(_parts(value))).hexdigest()


def _parts(value: object) -> Iterator[bytes]:
    if isinstance(value, Mapping):
        yield b"{%d" % len(value)
        for key, item in value.items():
            yield from _parts(key)
            yield from _parts(item)
    elif isinstance(value, (list, tuple)):
        yield b"%s%d" % (type(value).__name__.encode(), len(value))
        for item in value:
            yield from _parts(item)
    elif hasattr(value, "tobytes") and hasattr(value, "dtype"):
        yield f"{value.dtype.str}{value.shape}".encode() + value.tobytes()
    else:
        text = value if isinstance(value, bytes) else repr(value).encode("utf-8", "surrogatepass")
        yield b"%s%d:" % (type(value).__name__.encode(), len(text)) + text


class Acknowledged:
    """Appends to one log; every worker has its own, and its own keys."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def begin(self, values: Mapping[str, object]) -> None:
        """These values are about to be written; None, deleted."""
        self._append("?", values)

    def done(self, values: Mapping[str, object]) -> None:
        """The call that writes these values has returned."""
        self._append("!", values)

    def _append(self, mark: str, values: Mapping[str, object]) -> None:
        lines = [f"{mark} {digest_or_deleted(value)} {json.dumps(key)}\n" for key, value in values.items()]
        os.write(self._file, "".join(lines).encode())
        os.fsync(self._file)

    @contextlib.contextmanager
    def writing(self, values: Mapping[str, object]) -> Iterator[None]:
        """The block writes these values; they are acknowledged if it does not raise."""
        self.begin(values)
        yield
        self.done(values)

    def close(self) -> None:
        os.close(self._file)


def digest_or_deleted(value: object) -> str:
    return DELETED if value is None else digest(value)


class Expected:
    """What a key may hold: the last acknowledged digest, or one that was begun after it."""

    def __init__(self) -> None:
        self.acknowledged: str | None = None
        self.possible = {DELETED}

    def read(self, mark: str, value: str) -> None:
        if mark == "!":
            self.acknowledged, self.possible = value, {value}
        else:
            self.possible.add(value)


def expected(*logs: Path) -> dict[str, Expected]:
    """What every key of these logs may hold; a last line that was cut by a kill is no line."""
    return expected_after(line for log in logs if log.exists() for line in log.read_bytes().splitlines(keepends=True))


def expected_after(lines: Iterable[bytes]) -> dict[str, Expected]:
    """What every key may hold after these lines of a log."""
    found: dict[str, Expected] = {}
    for line in lines:
        if line.endswith(b"\n"):
            mark, value, key = line.decode().split(" ", 2)
            found.setdefault(json.loads(key), Expected()).read(mark, value)
    return found
