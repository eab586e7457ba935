"""What a rename or a write needs to survive a power cut, in one place."""

import os


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
