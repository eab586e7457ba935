"""`python -m ampstore.worker`: works for a master on another node.

It is started by the master, through ssh or srun, and gets the address and the keys of the master as
one line on stdin; there is nothing to start by hand. It serves any calculator that can be imported on
the node, uses the processes of the node as the master's machine does its own, and ends with its stdin.
"""

import sys

from ampstore.parallel.agent import main

if __name__ == "__main__":
    if len(sys.argv) > 1 or sys.stdin is None or sys.stdin.isatty():
        print(__doc__, file=sys.stderr)  # noqa: T201 - the only thing to say to people
        sys.exit(2)
    main(sys.stdin)
