r"""Pickles of protocol 0, which real Amp writes: opcodes are letters, and their arguments are lines.

`Text.is_text` walks one and says whether it has nothing else. Then every text in it ends with its line, so what looks
like opcodes after a line feed are opcodes.

`Text.with_calls` is for arrays. NumPy's recipe makes an empty one and gives it a state by BUILD, which the
unpickler in C hands on unseen; the one in Python that looks at it takes five times as long. The state is a
tuple, so the same stream can call the empty one with it, and what a `Reader` has there (`Unbuilt` of
`ampstore.codec.arrays`) checks the state as the other unpickler does:

    EMPTY p10 STATE b    becomes    EMPTY p10 STATE R p10
"""

from itertools import chain

from ampstore.codec.opcodes import NO_ARGUMENT, STOP, TURNS, pattern

_WALK = (
    rb"[" + NO_ARGUMENT + rb"]*+(?>(?:(?:"
    rb"[-+0-9.eF\nas(]+(?<=\n)"  # numbers, line by line: what is no number among it, the unpickler refuses
    rb"|p[0-9]{1,6}\n|[gIVSLF][^\n]*+\n|c[^\n]*+\n[^\n]*+\n)[" + NO_ARGUMENT + rb"]*+){0,%d})" % TURNS
)
_PUT, _GET = rb"(?:p[0-9]{1,6}\n)?", rb"g[0-9]{1,6}\n"
_WORD = rb"(?:[SV][^\n]{1,12}\n" + _PUT + rb"|" + _GET + rb")"
_DTYPE = (
    rb"(?:(?:cnumpy\ndtype\n" + _PUT + rb"|" + _GET + rb")\(" + _WORD + rb"I[01]{1,2}\nI[01]{1,2}\nt" + _PUT
    + rb"R" + _PUT + rb"\(I3\n" + _WORD + rb"NNNI-1\nI-1\nI0\nt" + _PUT + rb"b|" + _GET + rb")"
)  # fmt: skip
_DATA = (
    rb"(?:(?:c_codecs\nencode\n" + _PUT + rb"|" + _GET + rb")\((?:V[^\n]*+\n" + _PUT + rb"|" + _GET + rb")"
    + _WORD + rb"t" + _PUT + rb"R" + _PUT + rb"|(?:c__builtin__\nbytes\n" + _PUT + rb"|" + _GET + rb")\(tR" + _PUT
    + rb"|S[^\n]*+\n" + _PUT + rb"|" + _GET + rb")"
)  # fmt: skip
_STATE = rb"\(I1\n\((?:[IL][0-9]{1,12}L?\n){0,32}t" + _PUT + _DTYPE + rb"I0[01]\n" + _DATA + rb"t" + _PUT
_ARRAY = rb"R(" + _PUT + rb")(" + _STATE + rb")b"


_LONG, _KEPT = 256, 32
_CUT = b"\0"  # in a text it is written \\0


class Text:
    """A pickle to be looked at line by line, without the rest of lines that are long texts: no pattern minds that.

    An array of 1 kB is a line of 6 kB, and the walk over it takes as long as to unpickle it.

    Parameters
    ----------
    data : bytes
        All of it, and what may come behind it.
    """

    def __init__(self, data: bytes) -> None:
        self._has_arrays = b"_reconstruct\n" in data
        self._cuts: list[bytes] = []
        self._short = data
        if self._has_arrays and _CUT not in data:
            self._cut(data)

    def _cut(self, data: bytes) -> None:
        kept, upto, start, size = list[bytes](), 0, 0, len(data)
        while size - start > _LONG:
            if (end := data.rfind(b"\n", start, start + _LONG)) < 0:  # a long line, else the last of short ones
                if (end := data.find(b"\n", start + _LONG)) < 0:
                    break
                # Wherever such a line stands, it is a text, or a name behind an opcode of the line before.
                if data.startswith((b"V", b"(V", b"S", b"(S"), start):
                    kept.append(data[upto : start + _KEPT])
                    self._cuts.append(data[start + _KEPT : end])
                    upto = end
            start = end + 1
        self._short = _CUT.join([*kept, data[upto:]])

    def is_text(self) -> bool:
        """Whether it has nothing but opcodes of protocol 0 up to its end, and small memo places only."""
        match, position, end = pattern(_WALK).match, 0, len(self._short)
        while True:
            before, position = position, match(self._short, position).end()  # type: ignore[union-attr]
            if position == before or position >= end:
                return position < end and self._short[position] == STOP

    def with_calls(self) -> bytes | None:
        """The same value, its plain arrays made by calls; None if it has no arrays. It must be text."""
        if not self._has_arrays:
            return None
        called = pattern(_ARRAY).sub(rb"R\1\2R\1", self._short)
        if not self._cuts:
            return called
        return b"".join(chain.from_iterable(zip(called.split(_CUT), [*self._cuts, b""], strict=True)))
