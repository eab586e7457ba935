"""What a rename or a write needs to survive a power cut, in one place."""

import os
from pathlib import Path


def sync(path: str | os.PathLike[str]) -> None:
    """Put a file, or the names in a directory, on the disk.

    Never for the main file of an open SQLite database: closing any descriptor of it drops the locks
    that SQLite has on it.

    Raises
    ------
    OSError
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Make a directory and its missing parents, whose names are on the disk then.

    Without it everything in a new directory is gone after a power cut, however often it was synced.

    Raises
    ------
    OSError
    """
    if path.is_dir():
        return
    make_directory(path.parent)
    try:
        os.mkdir(path)
    except FileExistsError:  # another process was faster, and may not have come to its sync
        if not path.is_dir():
            raise
    sync(path.parent)
