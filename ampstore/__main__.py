"""The `ampstore` command, also as `python -m ampstore`.

Its own imports take most of the time of a short command, so Ctrl-C often comes within them.
"""

import sys


def main() -> None:
    """Run the command; interrupted while it is imported, it ends as it does later."""
    try:
        from ampstore.cli import main as command
    except KeyboardInterrupt:
        sys.exit(130)
    command()


if __name__ == "__main__":
    main()
