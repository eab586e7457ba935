"""Parameter texts of Amp, read without `eval`.

An `.amp` file is not a literal but calls: `dict(descriptor="...", model="...")`, where both values are such texts
again. The text is parsed, and the syntax tree is evaluated here by a table of the few calls that Amp ever wrote:

    dict(...)  OrderedDict([...])  set([...])      builtin containers
    array([[...]], dtype=...)  matrix(...)         NumPy arrays, with or without numpy. or np. in front
    np.float64(1.5)  np.str_('Cu')                 NumPy scalars as NumPy 2 writes them
    nan  inf  u'...'  2L                           what Python 2 and NumPy wrote bare

Everything else is refused by name: other calls and names, attributes, subscripts, comprehensions, lambdas, f-strings
and arithmetic except for the sign of a number and the two parts of a complex one.
"""

import ast
import math
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from ampstore.errors import ParameterTextError

if TYPE_CHECKING:
    import numpy

MAX_TEXT = 4_000_000
"""Characters of a text, some 200,000 weights; the syntax tree takes up to 500 bytes for each of them."""

MAX_DEPTH = 100
"""Containers inside each other, as deep as Python's own parser goes."""

MAX_ARRAY = 256_000_000
"""Bytes of one array."""

_CONSTANTS = {"nan": math.nan, "inf": math.inf, "True_": True, "False_": False}
_NUMPY = ("np", "numpy")
_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "intc", "longlong")
_REALS = ("bool", "float16", "float32", "float64", "complex64", "complex128", "str")
_SCALARS = {"bool_": "bool", "str_": "str"} | {name: name for name in _INTEGERS + _REALS}
_DTYPES = _SCALARS | {name: name for name in ("int", "float", "complex", "object")}
_DTYPE_TEXT = re.compile(r"[<>|=]?[biufcSU?]\d{0,6}|object|O")
_STRING = r"""'''(?:\\.|[^\\])*?'''|\"\"\"(?:\\.|[^\\])*?\"\"\"|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*\""""
_LONG = re.compile(rf"({_STRING})|\b(\d+)[lL]\b", re.DOTALL)


def string2dict(text: str) -> object:
    """The value of a parameter text, without running anything.

    Parameters
    ----------
    text : str
        Contents of an `.amp` file, or one of the texts inside it, as Amp on Python 2 and 3 and NumPy 1 and 2 wrote
        them.

    Returns
    -------
    object
        A dict for every text that Amp writes; its texts inside stay texts.

    Raises
    ------
    ParameterTextError
        (a ValueError) if the text is damaged, asks for anything but literals and arrays, or is beyond `MAX_TEXT`,
        `MAX_DEPTH` or `MAX_ARRAY`.
    """
    if not isinstance(text, str):
        raise TypeError(f"a parameter text is a str, not {type(text).__name__}")
    if len(text) > MAX_TEXT:
        raise ParameterTextError(f"{len(text):,} characters are more than {MAX_TEXT:,}")
    return _value(_parsed(text.strip()).body, MAX_DEPTH)


def _parsed(text: str) -> ast.Expression:
    try:
        return _parse(text)
    except SyntaxError:
        pass
    without = _LONG.sub(lambda match: match[1] or match[2], text)
    try:
        return _parse(without)
    except SyntaxError as err:
        raise ParameterTextError(err.msg or "syntax error", err.lineno) from None


def _parse(text: str) -> ast.Expression:
    try:
        return ast.parse(text, mode="eval")
    except (RecursionError, MemoryError):
        raise ParameterTextError("nested too deeply") from None
    except SyntaxError:
        raise
    except ValueError as err:  # a NUL character, a surrogate
        raise ParameterTextError(str(err)) from None


def _value(node: ast.expr, depth: int) -> object:
    if depth == 0:
        raise ParameterTextError(f"more than {MAX_DEPTH} levels inside each other", node.lineno)
    evaluate = _NODES.get(type(node))
    if evaluate is None:
        raise _refused(node)
    return evaluate(node, depth - 1)


def _refused(node: ast.expr) -> ParameterTextError:
    what = _WORDS.get(type(node), f"a {type(node).__name__}")
    return ParameterTextError(f"{what} is not allowed in it", node.lineno)


def _constant(node: ast.Constant, _: int) -> object:
    if node.value is ...:
        raise ParameterTextError("'...': NumPy shortened an array, its numbers are lost", node.lineno)
    return node.value


def _name(node: ast.Name | ast.Attribute, _: int) -> object:
    name = _numpy_name(node)
    if name not in _CONSTANTS:
        raise ParameterTextError(f"the name {ast.unparse(node)[:80]!r} means nothing in it", node.lineno)
    return _CONSTANTS[name]


def _numpy_name(node: ast.expr) -> str | None:
    """`name` or `np.name` as its last word; None for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in _NUMPY:
        return node.attr
    return None


def _items(nodes: list[ast.expr], depth: int) -> list[object]:
    return [_value(node, depth) for node in nodes]


def _dict(node: ast.Dict, depth: int) -> object:
    pairs = []
    for key, value in zip(node.keys, node.values, strict=True):
        if key is None:
            raise ParameterTextError("** is not allowed in it", node.lineno)
        pairs.append((_value(key, depth), _value(value, depth)))
    return _built(node, lambda: dict(pairs))


def _sign(node: ast.UnaryOp, depth: int) -> object:
    value = _value(node.operand, depth)
    if type(value) not in (int, float, complex) or not isinstance(node.op, (ast.UAdd, ast.USub)):
        raise ParameterTextError("only numbers have a sign", node.lineno)
    return -value if isinstance(node.op, ast.USub) else value  # type: ignore[operator]


def _complex(node: ast.BinOp, depth: int) -> object:
    real, imaginary = _value(node.left, depth), _value(node.right, depth)
    if type(real) not in (int, float) or type(imaginary) is not complex or not isinstance(node.op, (ast.Add, ast.Sub)):
        raise ParameterTextError("arithmetic is not allowed in it", node.lineno)
    return real + imaginary if isinstance(node.op, ast.Add) else real - imaginary  # type: ignore[operator]


def _call(node: ast.Call, depth: int) -> object:
    name = _numpy_name(node.func)
    if isinstance(node.func, ast.Name) and name in _CONTAINERS:
        return _container(node, _CONTAINERS[name], depth)
    if name in ("array", "matrix"):
        return _array(node, name, depth)
    if isinstance(node.func, ast.Attribute) and name in _SCALARS:
        return _scalar(node, name, depth)
    raise ParameterTextError(f"a call of {ast.unparse(node.func)[:80]!r} is not allowed in it", node.lineno)


def _container(node: ast.Call, kind: Callable[..., object], depth: int) -> object:
    positional = _items(node.args, depth)
    named = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise ParameterTextError("** is not allowed in it", node.lineno)
        if keyword.arg in named:
            raise ParameterTextError(f"{keyword.arg!r} is given twice", node.lineno)
        named[keyword.arg] = _value(keyword.value, depth)
    return _built(node, lambda: kind(*positional, **named))


def _scalar(node: ast.Call, name: str, depth: int) -> object:
    import numpy

    if len(node.args) != 1 or node.keywords:
        raise ParameterTextError(f"{name} takes one value", node.lineno)
    value = _value(node.args[0], depth)
    if not isinstance(value, (bool, int, float, complex, str)):
        raise ParameterTextError(f"{name} takes a number or a text", node.lineno)
    return _built(node, lambda: numpy.dtype(_SCALARS[name]).type(value))


def _array(node: ast.Call, name: str, depth: int) -> object:
    import numpy

    if len(node.args) != 1 or not {keyword.arg for keyword in node.keywords} <= {"dtype", "shape"}:
        raise ParameterTextError(f"{name} takes one list, dtype and shape", node.lineno)
    data = _value(node.args[0], depth)
    if isinstance(data, (str, bytes)) and name == "matrix":
        raise ParameterTextError("matrix takes a list", node.lineno)
    options = {keyword.arg: keyword.value for keyword in node.keywords}
    dtype = _dtype(options["dtype"]) if "dtype" in options else None
    count, longest = _extent(data)
    size = max(16, 4 * longest, dtype.itemsize if dtype else 0)
    if count * size > MAX_ARRAY:
        raise ParameterTextError(f"an array of {count * size:,} bytes is over the limit of {MAX_ARRAY:,}", node.lineno)
    made: numpy.ndarray[tuple[int, ...], numpy.dtype[object]] = _built(node, lambda: numpy.array(data, dtype=dtype))  # type: ignore[assignment, type-var]
    if "shape" in options:
        shape = _value(options["shape"], depth)
        if made.size != 0 or not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
            raise ParameterTextError("only an empty array has its shape written", node.lineno)
        made = _built(node, lambda: made.reshape(shape))  # type: ignore[assignment]
    return numpy.asmatrix(made) if name == "matrix" else made


def _dtype(node: ast.expr) -> "numpy.dtype[object]":  # type: ignore[type-var]
    import numpy

    name = _numpy_name(node)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        name = node.value
    if name is None or (name not in _DTYPES and not _DTYPE_TEXT.fullmatch(name)):
        raise ParameterTextError(f"{ast.unparse(node)[:80]!r} is no dtype that it may have", node.lineno)
    return _built(node, lambda: numpy.dtype(_DTYPES.get(name, name)))  # type: ignore[return-value]


def _extent(data: object) -> tuple[int, int]:
    """Numbers in nested lists, and the characters of the longest text among them."""
    if isinstance(data, (str, bytes)):
        return 1, len(data)
    if not isinstance(data, (list, tuple)):
        return 1, 0
    parts = [_extent(item) for item in data]
    return sum(count for count, _ in parts), max((longest for _, longest in parts), default=0)


def _built(node: ast.expr, make: Callable[[], object]) -> object:
    """What `make` returns; its complaints about the values are those about the text."""
    try:
        return make()
    except (TypeError, ValueError, OverflowError, MemoryError) as err:
        raise ParameterTextError(str(err) or type(err).__name__, node.lineno) from None


_CONTAINERS: dict[str, Callable[..., object]] = {
    "dict": dict,
    "OrderedDict": OrderedDict,
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
}

_NODES: dict[type[ast.expr], Callable[..., object]] = {
    ast.Constant: _constant,
    ast.Name: _name,
    ast.Attribute: _name,
    ast.List: lambda node, depth: _items(node.elts, depth),
    ast.Tuple: lambda node, depth: tuple(_items(node.elts, depth)),
    ast.Set: lambda node, depth: _built(node, lambda: set(_items(node.elts, depth))),
    ast.Dict: _dict,
    ast.UnaryOp: _sign,
    ast.BinOp: _complex,
    ast.Call: _call,
}

_WORDS: dict[type[ast.expr], str] = {
    ast.ListComp: "a comprehension",
    ast.SetComp: "a comprehension",
    ast.DictComp: "a comprehension",
    ast.GeneratorExp: "a comprehension",
    ast.Lambda: "a lambda",
    ast.JoinedStr: "an f-string",
    ast.Subscript: "a subscript",
    ast.Compare: "a comparison",
    ast.BoolOp: "and/or",
    ast.IfExp: "a condition",
    ast.NamedExpr: "an assignment",
    ast.Starred: "a star",
}
