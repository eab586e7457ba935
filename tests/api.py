"""The public names of ampstore with their signatures, as text.

    python tests/api.py            # print them
    python tests/api.py --write    # into tests/data/api.txt, after a change that is meant

A class shows its public methods and properties, what it is of the standard library, an error its bases, a constant
its type.
"""

import importlib
import inspect
import re
import sys
from pathlib import Path

SNAPSHOT = Path(__file__).resolve().parent / "data" / "api.txt"
MODULES = ("ampstore", "ampstore.shelve", "ampstore.amp", "ampstore.anneal")


def text():
    """Everything, one name a line."""
    lines = []
    for module in MODULES:
        lines += [f"[{module}]", *_module(importlib.import_module(module)), ""]
    return "\n".join(lines)


def _module(module):
    for name in sorted(module.__all__):
        found = getattr(module, name)
        if inspect.isclass(found):
            yield from _class(name, found)
        elif callable(found):
            yield f"{name}{_signature(found)}"
        else:
            yield f"{name}: {type(found).__name__}"


def _class(name, cls):
    bases = ", ".join(base.__name__ for base in cls.__bases__)
    if issubclass(cls, BaseException):
        yield f"class {name}({bases})"
        return
    foreign = (base.__name__ for base in cls.__mro__[1:-1] if base.__module__.split(".")[0] != "ampstore")
    yield f"class {name}({next(foreign, 'object')}){_signature(cls)}"
    for attribute in sorted(set(dir(cls)) - set(dir(object))):
        if attribute.startswith("_"):
            continue
        found = inspect.getattr_static(cls, attribute)
        if isinstance(found, property):
            yield f"    {attribute}: property"
        elif callable(found) or isinstance(found, (staticmethod, classmethod)):
            yield f"    {attribute}{_signature(getattr(cls, attribute))}"


def _signature(found):
    try:
        shown = str(inspect.signature(found))
    except (TypeError, ValueError):  # of C
        return "(...)"
    # Names and defaults are the promise; the writing of a type differs between versions of Python.
    signature = inspect.signature(found)
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    shown = str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    return re.sub(r" at 0x[0-9a-f]+|<class '([^']*)'>|<function ([^ >]*)>", r"\1\2", shown)


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        SNAPSHOT.write_text(text())
    else:
        print(text(), end="")
