"""`python -m ampstore.amp SCRIPT [ARGUMENTS]`: an unchanged Amp script on ampstore.

python -m ampstore.amp train.py --cores 4         a script, as `python train.py --cores 4` would run it
python -m ampstore.amp -m amp.model 0 node1:3125   a module, as `python -m amp.model 0 node1:3125` would
python -m ampstore.amp --stock-workers train.py   worker processes of Amp without ampstore
"""

import os
import runpy
import sys

from ampstore.amp.overlay import install
from ampstore.errors import AmpMissingError

STOCK_WORKERS = "--stock-workers"


def main() -> None:
    """Install, and run what the command line names as `__main__`."""
    words = sys.argv[1:]
    workers = words[:1] != [STOCK_WORKERS]
    target = words if workers else words[1:]
    if target[:1] in ([], ["-h"], ["--help"]):
        sys.stdout.write(f"{__doc__}")
        sys.exit(0 if target else 2)
    is_module = target[0] == "-m"
    if is_module and len(target) == 1:
        sys.exit("ampstore.amp: -m wants the name of a module")
    if not is_module and not os.path.exists(target[0]):
        sys.exit(f"ampstore.amp: there is no script {target[0]!r}")
    try:
        install(workers=workers)
    except AmpMissingError as err:
        sys.exit(f"ampstore.amp: {err}")
    if is_module:
        sys.argv = target[1:]
        runpy.run_module(target[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = target
        if not sys.flags.safe_path:
            sys.path[0] = os.path.dirname(os.path.abspath(target[0]))
        runpy.run_path(target[0], run_name="__main__")


if __name__ == "__main__":
    main()
