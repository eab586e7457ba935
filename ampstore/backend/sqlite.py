"""One SQLite file (in WAL mode, or in a rollback journal where hosts share it): its rows, and looking after it."""

import contextlib
import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

from ampstore.backend.statements import GAPS
from ampstore.backend.writing import Writer
from ampstore.errors import DamagedStoreError


class SQLite(Writer):
    """Rows of one SQLite file.

    Safe for threads and for processes that fork: every thread of every process has a connection of
    its own, made when it is first needed.

    Parameters
    ----------
    path : Path
        The file; it must exist and hold the schema.
    readonly : bool
        Write nothing, create nothing, lock nothing.
    timeout : float
        Longest wait for another writer, seconds.
    durability : {"normal", "full"}
        "normal": a power cut may take the last commits, never more, and never corrupts; "full":
        every commit is on the disk when the call returns (one sync for all that wait for it).
    shared : bool
        The file is on a file system that several hosts share: no WAL, and every commit is synced.

    Attributes
    ----------
    largest : int
        Bytes that one payload may have.
    """

    def checkpoint(self, wait: float = 1.0) -> bool:
        """Move the WAL into the main file and empty it; False if a reader held part of it back."""
        with self.alone():
            return self._wal.checkpoint(wait)

    def sync(self) -> None:
        """Put every commit so far on the disk: by a checkpoint, or by syncing the WAL beside readers."""
        with self.alone():
            self._wal.sync()

    def compact(self) -> None:
        """Rewrite the file without its free pages, and empty the WAL.

        Free pages are used again by later writes in any case. Giving them back bit by bit
        (auto_vacuum=INCREMENTAL) would need a map of pages that a commit of 1 kB pays with 1.13
        times the WAL and up to 1.2 times the time.
        """
        with self.alone() as connection, self._connections.translated():
            connection.execute("VACUUM")
        with self.transaction(), self._connections.translated():
            self.info_put(GAPS, str(self.last_id() - self.connection().execute(self.sql.number).fetchone()[0]))
        self.checkpoint()

    def copy_to(self, destination: Path) -> None:
        """Copy one snapshot into a new file while others go on writing."""
        # SQLite would make it with mode 0644 at most, which shuts a group out, and would follow a link.
        os.close(os.open(destination, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666))
        with self._connections.translated():
            target = sqlite3.connect(destination, isolation_level=None)
            try:
                self.connection().backup(target)
            finally:
                target.close()

    def replace_by(self, source: Path) -> None:
        """Take the content of another store's file in one transaction; other connections go on with it."""
        self._is_trusted = True  # whatever it lost, it is replaced
        with self.alone() as connection, self._connections.translated():
            origin = sqlite3.connect(f"file:{quote(str(source))}?mode=ro", uri=True, isolation_level=None)
            try:
                origin.backup(connection)
            finally:
                origin.close()
        self.checkpoint()

    def integrity(self) -> list[str]:
        """What SQLite finds wrong with the file, and whether its witness saw more commits; [] if nothing."""
        try:
            found = [str(row[0]) for row in self._read("PRAGMA integrity_check(100)")]
        except DamagedStoreError as err:
            return [err.detail]
        if found == ["ok"]:
            found = [
                f"len() is wrong by {more:+,}: another program deleted entries; `ampstore compact` counts them again"
                for (more,) in self._read(self.sql.miscount, (GAPS,))
                if more
            ]
        loss = self.loss()
        return found + ([loss] if loss else [])

    def stored_bytes(self) -> int:
        """Bytes on the disk: the main file and the WAL."""
        total = 0
        for name in (str(self.path), self._connections.wal):
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(name).st_size
        return total
