"""A bound on how far a pickle stream reaches into the memo.

The unpickler keeps a table of what it has seen, as long as the largest index that the stream
names: ten bytes that name index 2**32-1 make it ask for 64 GiB. No stream needs more places than
it has bytes. One regular expression walks the opcodes, at about a fifth of the time of unpickling
for the text pickles of Amp (`pickletools.genops` needs 2.7 times that time, and cannot read all
Python 2 strings).
"""

import re

_NO_ARGUMENT = rb"(\)\]\}0-2NQRabdelost\x81\x85-\x89\x8f-\x94\x97\x98u"
_PUT = re.compile(rb"p([^\n]*)\n")
# Short texts are most of what a stream has; without them here each costs a turn of the loop below.
_SHORT = b"|".join(b"\\x%02x.{%d}" % (length, length) for length in range(48))
_SHORT_4 = b"|".join(b"\\x%02x\\x00{3}.{%d}" % (length, length) for length in range(48))
_SKIP = re.compile(
    rb"(?:[" + _NO_ARGUMENT + rb"]"
    rb"|[FILSVgP][^\n]*+\n"  # one line
    rb"|[ci][^\n]*+\n[^\n]*+\n"  # two lines: GLOBAL, INST
    rb"|p[0-9]{1,6}\n"  # PUT, small index
    rb"|[Khq\x80\x82].|M..|\x83..|[Jj\x84].{4}|[G\x95].{8}"
    rb"|r..[\x00-\x03]\x00"  # LONG_BINPUT, index below 2**18
    rb"|[\x8cUC](?:" + _SHORT + rb")|[XTB](?:" + _SHORT_4 + rb")"
    rb")*+",
    re.DOTALL,
)
_LENGTH_BYTES = {b"U": 1, b"C": 1, b"\x8c": 1, b"\x8a": 1, b"T": 4, b"B": 4, b"X": 4, b"\x8b": 4}
_LENGTH_BYTES |= {b"\x8d": 8, b"\x8e": 8, b"\x96": 8}


def check_memo(stream: bytes) -> None:
    """Refuse a stream that names a memo place beyond its own length.

    Raises
    ------
    ValueError
        With the index, or with the place of an opcode that no protocol has.
    """
    position, end = 0, len(stream)
    while True:
        position = _SKIP.match(stream, position).end()  # type: ignore[union-attr]
        if position >= end:
            return
        opcode = stream[position : position + 1]
        if opcode == b".":
            return  # STOP; legacy files may go on behind it
        if (width := _LENGTH_BYTES.get(opcode)) is not None:
            length = int.from_bytes(stream[position + 1 : position + 1 + width], "little")
            position = min(position + 1 + width + length, end)
            continue
        if opcode == b"r":
            index, position = int.from_bytes(stream[position + 1 : position + 5], "little"), position + 5
        elif (put := _PUT.match(stream, position)) and put[1].isdigit() and len(put[1]) < 20:
            index, position = int(put[1]), put.end()
        elif position + 9 > end:
            return  # cut in the middle of an argument: the unpickler says so
        else:
            raise ValueError(f"no pickle: byte {opcode!r} at {position}")
        if index > end:
            raise ValueError(f"memo index {index} in a stream of {end} bytes")
