"""Every name of `amp.utilities`, and real Amp on top of them.

    import ampstore.amp
    ampstore.amp.install()                 before or after `import amp`; the rest of the program stays as it is

    python -m ampstore.amp train.py        an unchanged Amp script on ampstore

Signatures are those of Amp 1.x: what a program of 0.6.1 or 1.x passes is accepted, and what ampstore adds comes
behind it. Names of `amp.utilities` that are not here (`check_images`, `logo`, `get_overfit_mask`, …) stay Amp's own.

    overlay     install, uninstall: our names in the place of Amp's
    data        Data that draws as many random numbers as Amp's
    training    the two exceptions by which Amp's training ends
    workers     worker processes on ampstore as well
"""

from typing import TYPE_CHECKING

from ampstore.amp.overlay import NAMES, install, uninstall
from ampstore.late import late_names

if TYPE_CHECKING:
    from ampstore.amp.data import Data as Data
    from ampstore.amp.training import ConvergenceOccurred as ConvergenceOccurred
    from ampstore.amp.training import TrainingConvergenceError as TrainingConvergenceError
    from ampstore.anneal import Annealer as Annealer
    from ampstore.cores import assign_cores as assign_cores
    from ampstore.database import FileDatabase as FileDatabase
    from ampstore.images import MetaDict as MetaDict
    from ampstore.images import get_hash as get_hash
    from ampstore.images import hash_images as hash_images
    from ampstore.images import importer as importer
    from ampstore.images import make_filename as make_filename
    from ampstore.images import randomize_images as randomize_images
    from ampstore.images import string2dict as string2dict
    from ampstore.log import Logger as Logger
    from ampstore.log import now as now
    from ampstore.parallel import MessageDictionary as MessageDictionary
    from ampstore.parallel import make_sublists as make_sublists
    from ampstore.parallel import setup_parallel as setup_parallel
    from ampstore.parallel import start_workers as start_workers

__all__ = [*NAMES, "install", "uninstall"]  # noqa: PLE0604

__getattr__ = late_names(__name__, NAMES)


def __dir__() -> list[str]:
    return sorted(__all__)
