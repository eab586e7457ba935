r"""Pickles of protocol 0, which real Amp writes: opcodes are letters, and their arguments are lines.

`is_text` walks one and says whether it has nothing else. Then every text in it ends with its line, so what looks
like opcodes after a line feed are opcodes.

`with_calls` is for arrays. NumPy's recipe makes an empty one and gives it a state by BUILD, which the
unpickler in C hands on unseen; the one in Python that looks at it takes five times as long. The state is a
tuple, so the same stream can call the empty one with it, and what a `Reader` has there (`Unbuilt` of
`ampstore.codec.arrays`) checks the state as the other unpickler does:

    EMPTY p10 STATE b    becomes    EMPTY p10 STATE R p10
"""

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


def is_text(data: bytes) -> bool:
    """Whether a pickle has nothing but opcodes of protocol 0 up to its end, and small memo places only."""
    match, position, end = pattern(_WALK).match, 0, len(data)
    while True:
        before, position = position, match(data, position).end()  # type: ignore[union-attr]
        if position == before or position >= end:
            return position < end and data[position] == STOP


def with_calls(data: bytes) -> bytes:
    """The same value, its plain arrays made by calls; `data` must be text."""
    return pattern(_ARRAY).sub(rb"R\1\2R\1", data) if b"_reconstruct\n" in data else data
