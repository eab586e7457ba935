"""Small names of Amp: where a file goes, where a module hides."""

from importlib import import_module
from types import ModuleType


def make_filename(label: str | None, base_filename: str) -> str | None:
    """Name of an output file.

    Parameters
    ----------
    label : str or None
        Put before the name as it is; an empty one changes nothing, None means that nothing is to be saved.
    base_filename : str
        The name.

    Returns
    -------
    str or None
        None if `label` is None.
    """
    for text in ("" if label is None else label, base_filename):
        if not isinstance(text, str):
            raise TypeError(f"label and base_filename are str, not {type(text).__name__} ({text!r})")
    return None if label is None else label + base_filename


def importer(name: str) -> object:
    """The module pxssh or the class NeighborList, from where this installation has it.

    Parameters
    ----------
    name : str
        ``"pxssh"`` or ``"NeighborList"``.

    Returns
    -------
    module, class or None
        None for any other name.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    if name == "pxssh":
        return _first("pxssh", "pexpect.pxssh")
    if name == "NeighborList":
        found: object = _first("ase.neighborlist", "ase.calculators.neighborlist").NeighborList
        return found
    return None


def _first(module: str, other: str) -> ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError:
        return import_module(other)
