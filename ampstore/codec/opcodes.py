"""Bounds on what a pickle stream makes the unpickler do, before it does it.

The unpickler keeps a table of what it has seen, as long as the largest index that the stream names:
ten bytes that name index 2**32-1 make it ask for 64 GiB. No stream needs more places than it has
bytes. And a tuple in a tuple in a tuple is hashed by C code that calls itself without a limit:
100,000 of them as a key of a dictionary end the process.

`check_memo` walks all opcodes by one regular expression (`pickletools.genops` takes ten times that, and
cannot read all Python 2 strings). What ampstore writes names no places at all, so `check_stream`
looks first whether any bytes could be such an opcode: 1 us where none could. Where some do, which is so of most
pickles with a text in them, it walks by a pattern of what protocol 5 writes for plain values: 3 us for a dictionary
of 1 kB, 60 floats among it, which takes 5 to unpickle. `check_memo` does the rest.
"""

import functools
import re

_NESTING = rb"t\x85-\x87"  # what puts values into a tuple
_NOT_NESTING = rb"(\)\]\}0-2NQRabdelos\x81\x88\x89\x8f-\x94\x97\x98u"
NO_ARGUMENT = _NOT_NESTING + _NESTING
"""Opcodes without an argument, for a set of a regular expression."""

_PUT = rb"p([^\n]*)\n"
# Short texts are most of what a stream has; without them here each costs a turn of the loop below.
_SHORT = b"|".join(b"\\x%02x.{%d}" % (length, length) for length in range(48))
_SHORT_4 = b"|".join(b"\\x%02x\\x00{3}.{%d}" % (length, length) for length in range(48))
_WITH_ARGUMENT = (
    rb"|[\x8cUC](?:" + _SHORT + rb")\x94?+|[XTB](?:" + _SHORT_4 + rb")|[Khq\x80\x82].|[G\x95].{8}"
    rb"|[FILSVgP][^\n]*+\n"  # one line
    rb"|[ci][^\n]*+\n[^\n]*+\n"  # two lines: GLOBAL, INST
    rb"|p[0-9]{1,6}\n"  # PUT, small index
    rb"|M..|\x83..|[Jj\x84].{4}"
    rb"|r..[\x00-\x03]\x00"  # LONG_BINPUT, index below 2**18
)
# Atomic groups, not possessive ones: until Python 3.11.2 a turn of `(?:...)*+` that fails in its middle leaves the
# position there. What an atomic group remembers while it runs is bounded by the number of its turns.
TURNS = 4000
_SKIP = rb"(?>(?:[" + NO_ARGUMENT + rb"]++" + _WITH_ARGUMENT + rb"){0,%d})" % TURNS
_SKIP_FEW = rb"(?>(?:[" + NO_ARGUMENT + rb"]" + _WITH_ARGUMENT + rb"){0,50})"
_NESTED = rb"(?>(?:[" + _NOT_NESTING + rb"]++" + _WITH_ARGUMENT + rb"){0,%d})([" % TURNS + _NESTING + rb"]*+)"
# What protocol 5 writes for plain values. Dots cost a tenth of ".{8}", and a turn of the outer loop as much as twenty
# of them, so one turn takes what often comes together; the most frequent comes first.
_PLAIN = (
    rb"[" + NO_ARGUMENT + rb"]*+(?>(?:(?:"
    rb"G........G........G........|[Kh]."
    rb"|\x8c(?:" + b"|".join(b"\\x%02x" % length + b"." * length for length in range(24)) + rb")"
    rb"|G........|[q\x80\x82].|M..|J....|\x95........"
    rb")[" + NO_ARGUMENT + rb"]*+){0,%d})" % TURNS
)
_LENGTH_BYTES = {b"U": 1, b"C": 1, b"\x8c": 1, b"\x8a": 1, b"T": 4, b"B": 4, b"X": 4, b"\x8b": 4}
_LENGTH_BYTES |= {b"\x8d": 8, b"\x8e": 8, b"\x96": 8}


DEEPEST = 50_000
"""Tuples in tuples that may be hashed: 100,000 of them are too many for a stack of 8 MB."""

_SMALL_PLACE = 1 << 20  # a table of 16 MB
_FAR_PLACE = re.compile(rb"r..(?:[\x10-\xff].|.[^\0])", re.DOTALL)
# CPython asks for the memory of a bytearray before it looks for its bytes, and prints a SystemError if it gets none.
_LARGE_BYTEARRAY = re.compile(rb"\x96.{3}(?:[\x40-\xff]|.(?!\0{4}))", re.DOTALL)
_FAR_PUT = re.compile(rb"p[ \t\r\f\v+_0-9]{7,}\n")


def check_stream(stream: bytes) -> None:
    """Refuse a stream that names a memo place beyond 2**20 and beyond its own length, or a bytearray that it lacks.

    Raises
    ------
    ValueError
        As `check_memo`.
    """
    odd = _FAR_PLACE.search(stream) or _FAR_PUT.search(stream) or _LARGE_BYTEARRAY.search(stream)
    if odd and not _is_plain(stream):
        check_memo(stream, _SMALL_PLACE)


def _is_plain(stream: bytes) -> bool:
    """Whether there is nothing in a stream up to its end but what protocol 5 writes for plain values."""
    match, position, end = pattern(_PLAIN).match, 0, len(stream)
    while True:
        before, position = position, match(stream, position).end()  # type: ignore[union-attr]
        if position - before >= TURNS:
            continue  # it may have stopped for the number of turns
        if position >= end or stream[position] != _TEXT:
            break
        position += 2 + int.from_bytes(stream[position + 1 : position + 2])
    return position < end and stream[position] == STOP


@functools.cache
def pattern(text: bytes) -> "re.Pattern[bytes]":
    """Compiled expression, in which a dot is any byte."""
    # Compiled when it is needed: all together take 20 ms, as long as it takes to open a store.
    return re.compile(text, re.DOTALL)


def check_memo(stream: bytes, least: int = 0) -> None:
    """Refuse a stream that names a memo place beyond its own length and beyond `least`, or a bytearray that it lacks.

    Raises
    ------
    ValueError
        With the index, or with the place of an opcode that no protocol has.
    """
    most, position, end = max(len(stream), least), 0, len(stream)
    while position < end:
        before, position = position, pattern(_SKIP).match(stream, position).end()  # type: ignore[union-attr]
        if position - before >= TURNS:
            continue  # it may have stopped for the number of turns
        if position >= end or stream[position] == STOP:
            return  # legacy files may go on behind it
        start, (position, index) = position, _odd(stream, position)
        if stream[start] == _BYTEARRAY and position == end:
            raise ValueError(f"a bytearray at {start} reaches past the end")
        if index > most:
            raise ValueError(f"memo index {index} in a stream of {end} bytes")
        if position == start:
            if position + 9 > end:
                return  # cut in the middle of an argument: the unpickler says so
            raise ValueError(f"no pickle: byte {stream[position : position + 1]!r} at {position}")


def may_nest_deeply(stream: bytes) -> bool:
    """Whether a stream may put more than `DEEPEST` tuples into each other; cheap where it has few of them."""
    if len(stream) <= DEEPEST or _is_mostly_data(stream):
        return False
    if sum(map(stream.count, (b"t", b"\x85", b"\x86", b"\x87"))) <= DEEPEST:
        return False
    count = position = 0
    while position < len(stream) and count <= DEEPEST:
        found = pattern(_NESTED).match(stream, position)
        count += len(found[1])  # type: ignore[index]
        before, position = position, found.end()  # type: ignore[union-attr]
        if not found[1] and position - before < TURNS:  # type: ignore[index]
            start, (position, _) = position, _odd(stream, position)
            if position == start:  # STOP, or what is no pickle
                break
    return count > DEEPEST


def _is_mostly_data(stream: bytes) -> bool:
    """Whether a stream has no more than 3000 opcodes: arrays, and no texts full of "t"."""
    position = 0
    for _ in range(64):
        position = pattern(_SKIP_FEW).match(stream, position).end()  # type: ignore[union-attr]
        if position >= len(stream) or stream[position] == STOP:
            return True
        position, _ = _odd(stream, position)
    return False


STOP = b"."[0]
_TEXT = 0x8C
_BYTEARRAY = 0x96


def _odd(stream: bytes, position: int) -> tuple[int, int]:
    """Place behind an opcode that the patterns leave out, and the memo place that it names.

    These are texts and numbers of any length, and far memo places; where it is none of them, it is not passed.
    """
    opcode, end = stream[position : position + 1], len(stream)
    if (width := _LENGTH_BYTES.get(opcode)) is not None:
        length = int.from_bytes(stream[position + 1 : position + 1 + width], "little")
        return min(position + 1 + width + length, end), 0
    if opcode == b"r":
        return min(position + 5, end), int.from_bytes(stream[position + 1 : position + 5], "little")
    if (put := pattern(_PUT).match(stream, position)) and put[1].isdigit() and len(put[1]) < 20:
        return put.end(), int(put[1])
    return position, 0
