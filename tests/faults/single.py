"""One scripted session in this process, for strace: `python -m faults.single SESSION DIRECTORY LOG SEED`."""

import sys

from faults.session import play


class NoShim:
    """Stands where the shim is in the other sessions."""

    def mark(self, number: int) -> None:
        """Nobody records."""


if __name__ == "__main__":
    names = ("session", "directory", "log", "seed")
    play(dict(zip(names, [*sys.argv[1:4], int(sys.argv[4])], strict=True)), NoShim())  # type: ignore[arg-type]
