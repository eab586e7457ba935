"""Our names in the place of Amp's, in every module that has them.

    amp.utilities.FileDatabase            -> ampstore's
    amp.descriptor.gaussian.Data          -> ampstore's: `from ..utilities import Data` made a second reference
    amp.model.LossFunction                   untouched

Modules of Amp that are imported later find ours in `amp.utilities`. What surprises: Amp 0.6.1 and 1.x give the
same image different keys, so the installed Amp is asked for one key and the overlay makes keys of that
generation; databases of that very Amp are found again.
"""

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

from ampstore.amp.workers import on_ampstore
from ampstore.errors import AmpMissingError
from ampstore.late import late_logger

log = late_logger(__name__)

NAMES = {
    "Annealer": "anneal",
    "ConvergenceOccurred": "amp.training",
    "Data": "amp.data",
    "FileDatabase": "database",
    "Logger": "log",
    "MessageDictionary": "parallel",
    "MetaDict": "images",
    "TrainingConvergenceError": "amp.training",
    "assign_cores": "cores",
    "get_hash": "images",
    "hash_images": "images",
    "importer": "images",
    "make_filename": "images",
    "make_sublists": "parallel",
    "now": "log",
    "randomize_images": "images",
    "setup_parallel": "parallel",
    "start_workers": "parallel",
    "string2dict": "images",
}
"""Every name of `amp.utilities` that ampstore has, and the part that it comes from."""


class _Place(NamedTuple):
    """A name in a module, and what it meant before."""

    module: ModuleType
    name: str
    stock: object


_stock: dict[str, Any] = {}
_ours: dict[str, Any] = {}
_places: list[_Place] = []


def install(*, workers: bool = True) -> tuple[str, ...]:
    """Put ampstore's names into the installed Amp.

    Every reference to one of Amp's own that any imported module holds is replaced: Amp's modules, and those of a
    program that said ``from amp.utilities import hash_images``. Objects made before stay what they are. Installing
    again does no harm, and takes along what was imported meanwhile.

    Parameters
    ----------
    workers : bool
        Worker processes that Amp starts (``python -m amp.model …``) run on ampstore as well; False starts them as
        Amp would.

    Returns
    -------
    tuple of str
        The names that are ampstore's now. A name is left to Amp if this Amp's takes arguments that ampstore's does
        not know, and keys if they are of no generation that ampstore knows.

    Raises
    ------
    AmpMissingError
        (an ImportError) if there is no Amp in this Python.
    """
    uninstall()
    utilities = vars(_utilities())
    for name, own in _replacements(utilities["get_hash"], workers=workers).items():
        if name in utilities and _takes_as_much(own, utilities[name]):
            _stock[name], _ours[name] = utilities[name], own
    by_identity = {id(stock): _ours[name] for name, stock in _stock.items()}
    for module, name, value in _bound(sys.modules.values()):
        if id(value) in by_identity and not str(vars(module).get("__name__")).startswith("ampstore."):
            _places.append(_Place(module, name, value))
            setattr(module, name, by_identity[id(value)])
    log.info("Amp runs on ampstore: %s", ", ".join(_ours))
    return tuple(_ours)


def uninstall() -> None:
    """Give Amp its own names back, wherever `install` replaced them and in all modules of Amp."""
    for module, name, stock in _places:
        setattr(module, name, stock)
    by_identity = {id(own): _stock[name] for name, own in _ours.items()}
    of_amp = (module for name, module in list(sys.modules.items()) if name.partition(".")[0] == "amp")
    for module, name, value in _bound(of_amp):
        if id(value) in by_identity:
            setattr(module, name, by_identity[id(value)])
    for record in (_places, _stock, _ours):
        record.clear()


def _utilities() -> ModuleType:
    try:
        return import_module("amp.utilities")
    except ModuleNotFoundError as err:
        if err.name not in ("amp", "amp.utilities"):
            raise
        raise AmpMissingError(sys.executable) from err


def _replacements(get_hash: Callable[[Any], str], *, workers: bool) -> Mapping[str, Any]:
    """Our objects by name, with keys of the generation that this Amp makes."""
    found = {name: getattr(import_module(f"ampstore.{part}"), name) for name, part in NAMES.items()}
    if workers:
        found["setup_parallel"] = on_ampstore(found["setup_parallel"])
    scheme = _scheme_of(get_hash)
    if scheme is None:
        log.warning("the keys that this Amp makes are of no known generation; get_hash and hash_images stay Amp's own")
        del found["get_hash"], found["hash_images"]
    elif scheme != "v2":
        found |= _hashing(scheme)
    return found


def _scheme_of(get_hash: Callable[[Any], str]) -> str | None:
    from ase import Atoms

    from ampstore import images

    probe = Atoms("Cu25", positions=[(0.0, 0.1, 2.5 * n) for n in range(25)])  # 25: v0 and v1 break lines differently
    stock = get_hash(probe)
    return next((scheme for scheme in images.SCHEMES if images.get_hash(probe, scheme) == stock), None)


def _hashing(scheme: str) -> dict[str, Callable[..., Any]]:
    """`get_hash` and `hash_images` of one generation."""
    from ampstore.images import get_hash as key_of
    from ampstore.images import hash_images as under_keys

    def get_hash(atoms: Any) -> str:
        return key_of(atoms, scheme)

    def hash_images(images: Any, log: Callable[..., object] | None = None, ordered: bool = False) -> Any:
        return under_keys(images, log, ordered, scheme=scheme)

    return {"get_hash": get_hash, "hash_images": hash_images}


def _takes_as_much(own: Callable[..., Any], stock: Callable[..., Any]) -> bool:
    try:
        wanted = inspect.signature(stock).parameters
        known = inspect.signature(own).parameters
    except ValueError:  # a class without a constructor of its own has no signature
        return True
    return set(wanted) <= set(known)


def _bound(modules: Iterable[object]) -> Iterable[tuple[ModuleType, str, object]]:
    """Every name of every module, and its value."""
    for module in list(modules):
        if isinstance(module, ModuleType):
            for name, value in list(vars(module).items()):
                yield module, name, value
