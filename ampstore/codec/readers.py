"""Two unpicklers under one rule: a fast one for plain numbers, a careful one for the rest of NumPy."""

import functools
import pickle
import struct
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

from ampstore.codec.arrays import ArrayGuard, DtypeGuard, NeedsCare, PlainDtype, checked_state, dtype_from
from ampstore.codec.guard import Guard, check

if TYPE_CHECKING:
    from ampstore.codec.safe import Rule


class Reader(pickle.Unpickler):
    """Unpickler under a rule; of numpy it reads plain numbers only.

    It has no `__init__` of its own: one in Python costs as much as a small value.
    """

    rule: "Rule"
    dtypes: "list[weakref.ref[PlainDtype]] | None" = None

    def find_class(self, module: str, name: str) -> object:
        found = self.rule.find(module, name)
        if isinstance(found, ArrayGuard):
            raise NeedsCare
        if isinstance(found, DtypeGuard):
            if self.dtypes is None:
                self.dtypes = []
            return Guard(functools.partial(_plain_dtype, found, self.dtypes))
        return found


def _plain_dtype(guard: DtypeGuard, made: "list[weakref.ref[PlainDtype]]", *arguments: object) -> PlainDtype:
    dtype: Any = guard(*arguments)
    if dtype.hasobject or dtype.kind == "V":
        raise NeedsCare
    plain = PlainDtype(dtype)
    made.append(weakref.ref(plain))  # one that lives on after the load stands in the value
    return plain


class CarefulReader(pickle._Unpickler):
    """Unpickler under a rule, in Python: it sees what numpy is handed. Arrays cost about twice the time."""

    def __init__(self, file: BinaryIO, rule: "Rule", encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self._rule = rule

    def find_class(self, module: str, name: str) -> object:
        return self._rule.find(module, name)

    def load_build(self) -> None:
        from numpy import dtype, ndarray

        stack: list[Any] = self.stack  # type: ignore[attr-defined]
        state, made = stack.pop(), stack[-1]
        if isinstance(made, ndarray):
            made.__setstate__(checked_state(made, state))
        elif isinstance(made, dtype):
            # A state of numpy's own making, not that of the stream, which numpy would believe.
            honest = dtype_from(made, state)
            made.__setstate__(honest.__reduce__()[2])  # type: ignore[attr-defined]
            check(made == honest and (made.itemsize, made.flags) == (honest.itemsize, honest.flags), "dtype")
        else:
            stack.append(state)
            super().load_build()  # type: ignore[misc]

    def load_newobj(self) -> None:
        check(isinstance(self.stack[-2], type), "NEWOBJ")  # type: ignore[attr-defined]
        super().load_newobj()  # type: ignore[misc]

    def load_newobj_ex(self) -> None:
        check(isinstance(self.stack[-3], type), "NEWOBJ_EX")  # type: ignore[attr-defined]
        super().load_newobj_ex()  # type: ignore[misc]

    def load_bytearray8(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))  # type: ignore[attr-defined]
        self.append(bytearray(self.read(size)))  # type: ignore[attr-defined]

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **pickle._Unpickler.dispatch,
        pickle.BUILD[0]: load_build,
        pickle.NEWOBJ[0]: load_newobj,
        pickle.NEWOBJ_EX[0]: load_newobj_ex,
        pickle.BYTEARRAY8[0]: load_bytearray8,
    }
