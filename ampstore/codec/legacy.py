"""Values from the pickles of Amp: Python 2 and 3, protocols 0 to 5, NumPy 1 and 2.

Python 2 wrote text and array data as byte strings; read as Latin-1 both come out right (an array's
state gets its bytes back, text is text). What comes out must be a tree that a program can walk:
a list that holds itself, or one that shares its parts until 300 bytes unfold to 10**11 items,
is no value that Amp ever wrote.
"""

import contextlib
import io
import re

from ampstore.codec.garbage import LARGE, no_garbage_collection
from ampstore.codec.opcodes import DEEPEST, check_memo, may_nest_deeply
from ampstore.codec.safe import Rule
from ampstore.codec.same import same
from ampstore.codec.text import Text
from ampstore.errors import CodecError, LegacyPickleError

_CONTAINERS = frozenset((list, tuple, dict, set, frozenset))
_FEWEST_NODES = 1_000_000
_DEEPEST = 500


def load_legacy(key: str, data: bytes, rule: Rule) -> object:
    """Value of one legacy file; runs nothing outside the rule.

    Parameters
    ----------
    key : str
        For the error.
    data : bytes
        The whole file. Bytes after the end of the pickle are left alone, as Amp does.
    rule : Rule
        What the pickle may name.

    Raises
    ------
    LegacyPickleError
        If the bytes are not one whole pickle of a value.
    ForbiddenGlobalError
        If the pickle names a global outside the rule.
    """
    if not data.strip(b"\0"):
        raise LegacyPickleError(key, "the file is empty" if not data else "the file is all zeros")
    try:
        value = _load(data, rule)
        _check_tree(value, max(_FEWEST_NODES, 16 * len(data)))
    except CodecError:
        raise
    except Exception as err:
        raise LegacyPickleError(key, f"{type(err).__name__}: {err}") from err
    return value


def _load(data: bytes, rule: Rule) -> object:
    lines = Text(data)
    text = lines.is_text()
    if not text:
        check_memo(data)
    # In text only "t" puts values into a tuple, and to count it is cheaper than the walk that knows all opcodes.
    careful = (not text or data.count(b"t") > DEEPEST) and may_nest_deeply(data)
    with no_garbage_collection() if len(data) > LARGE else contextlib.nullcontext():
        if text and not careful and (called := lines.with_calls()):
            with contextlib.suppress(Exception):  # what is wrong with it is told of the stream as it was written
                return rule.unpickle_quickly(_file(called), encoding="latin1")
        return rule.unpickle(_file(data), encoding="latin1", careful=careful)


def _file(data: bytes) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(data))  # without peek() the unpickler calls read() once for every opcode


_LAST_LINE = re.compile(rb"(?:\A|\n)[(\)\]}0-2Rabdelostu]*\.\Z")


def ends_whole(tail: bytes) -> bool:
    """Whether the last bytes of a file are surely not those of a torn pickle; cheap, and False if in doubt.

    Every pickle ends with STOP, a full stop. Text pickles are full of those (every float has one),
    but STOP itself stands behind opcodes only.
    """
    if not tail.endswith(b"."):
        return False
    return not tail.isascii() or _LAST_LINE.search(tail) is not None


def _check_tree(value: object, most: int) -> None:
    """Refuse a value whose containers, walked as a tree, pass `most` nodes or the recursion limit."""
    nodes, level, depth = 0, [value], 0
    while level:
        depth += 1
        below: list[object] = []
        for item in level:
            cls = type(item)
            if cls is dict:
                parts: list[object] = [*item, *item.values()]  # type: ignore[misc, attr-defined]
            elif cls in _CONTAINERS:
                parts = item  # type: ignore[assignment]
            else:
                continue
            nodes += len(parts)
            if not _CONTAINERS.isdisjoint(map(type, parts)):
                below.extend(parts)
            if nodes > most or depth > _DEEPEST:
                raise ValueError("it holds itself, or unfolds without end")
        level = below


WRITTEN_PROTOCOL = 2  # the highest that Amp on Python 2 reads


def dump_legacy(value: object, rule: Rule) -> bytes:
    """Pickle that Amp reads on Python 2 and 3 and on NumPy 1 and 2.

    Raises
    ------
    EncodeError, ForbiddenGlobalError
        As `Codec.encode`.
    LegacyPickleError
        If the value is none that `load_legacy` would give back.
    """
    data = rule.dumps(value, WRITTEN_PROTOCOL)
    # NumPy 2 names numpy._core, which NumPy before 1.26 does not have. The name might also stand in
    # a text of the value, which would then be changed: so the result is read back and compared.
    renamed = data.replace(b"cnumpy._core.", b"cnumpy.core.")
    if renamed == data or not _reads_as(value, renamed, rule):
        renamed = data
    _check_tree(value, max(_FEWEST_NODES, 16 * len(data)))
    return renamed


def _reads_as(value: object, data: bytes, rule: Rule) -> bool:
    try:
        return same(value, load_legacy("", data, rule))
    except CodecError:
        return False
