"""Names of functions and classes that a pickle refers to, found without importing or running anything.

The opcodes are walked with a stack of texts only. A name that is put together in another way than
picklers do it (DUP, POP, a text from a persistent id) is reported as `UNKNOWN`: it is there, and this
reader cannot say what it is; the unpickler, which can, refuses what is not admitted.
"""

from collections.abc import Iterator

UNKNOWN = ("?", "?")

_TEXTS = frozenset(
    ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING")
)
_PUTS = frozenset(("PUT", "BINPUT", "LONG_BINPUT"))
_GETS = frozenset(("GET", "BINGET", "LONG_BINGET"))
_NO_EFFECT = frozenset(("PROTO", "FRAME"))


class _Texts:
    """Texts that stand on top of the stack, pushed one after the other, and those in the memo."""

    def __init__(self) -> None:
        self.last: list[str] = []
        self._memo: dict[int, str] = {}
        self._count = 0

    def see(self, opcode: str, argument: object) -> None:
        """Follow an opcode that names no global."""
        if opcode in _TEXTS:
            self.last = [*self.last[-1:], str(argument)]
        elif opcode in _GETS:
            self.last = [*self.last[-1:], self._memo[argument]] if argument in self._memo else []
        elif opcode == "MEMOIZE" or opcode in _PUTS:
            self._put(argument if isinstance(argument, int) else self._count)
        elif opcode not in _NO_EFFECT:
            self.last = []

    def _put(self, place: int) -> None:
        self._count += 1
        self._memo.pop(place, None)
        if self.last:
            self._memo[place] = self.last[-1]


def globals_of(stream: bytes) -> Iterator[tuple[str, str]]:
    """(module, name) of every global that a pickle names; `UNKNOWN` for those, and for a rest, that cannot be read."""
    import pickletools  # 10 ms that opening a store need not pay

    texts = _Texts()
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name in ("GLOBAL", "INST"):
                module, _, name = str(argument).partition(" ")
                yield module, name
            elif opcode.name == "STACK_GLOBAL":
                yield (texts.last[0], texts.last[1]) if len(texts.last) > 1 else UNKNOWN
            elif opcode.name.startswith("EXT"):
                yield UNKNOWN
            texts.see(opcode.name, argument)
    except Exception:  # noqa: BLE001 - pickletools raises whatever the bytes make it raise
        yield UNKNOWN
