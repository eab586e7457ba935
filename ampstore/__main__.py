"""The `ampstore` command, also as `python -m ampstore`.

Its own imports take most of the time of a short command, so Ctrl-C often comes within them. They make
many objects and no garbage; to look for some all the same is a tenth of that time, and at the end again.
"""

import gc
import sys

FEW_COLLECTIONS = 50_000
"""New objects after which garbage is looked for: more than the imports make. Python's own number is 700."""


def main() -> None:
    """Run the command; interrupted while it is imported, it ends as it does later."""
    gc.set_threshold(FEW_COLLECTIONS)
    try:
        from ampstore.cli import main as command
    except KeyboardInterrupt:
        sys.exit(130)
    try:
        command()
    finally:
        gc.freeze()


if __name__ == "__main__":
    main()
