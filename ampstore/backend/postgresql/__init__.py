"""One store in a schema of a PostgreSQL database. Importing this needs psycopg; nothing else does.

reading       asking for rows
writing       changing rows; transactions
connections   one for every thread of every process, mended when the server was away
silence       a server that is frozen is noticed
failures      PostgreSQL's errors turned into ours
"""

from ampstore.backend.postgresql.writing import Writer

_SIZE = """\
SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname = current_schema()"""

_INVALID = """\
SELECT 'index ' || indexrelid::regclass || ' is not valid; REINDEX it'
FROM pg_index WHERE indrelid IN ('entry'::regclass, 'claim'::regclass) AND NOT indisvalid"""


class PostgreSQL(Writer):
    """Rows of one store in a PostgreSQL database.

    Safe for threads and for processes that fork: every thread of every process has a connection of
    its own, made when it is first needed, and made anew when the server was away.

    Parameters
    ----------
    server : Server
        The database and the schema, which must hold the tables unless `revision` says None.
    readonly : bool
        Write nothing, create nothing.
    timeout : float
        Longest wait for another writer and for a server that restarts, seconds.
    durability : {"normal", "full"}
        "normal": every commit is on the disk of the server when the call returns; "full": on that of
        its synchronous standbys too, where it has any.

    Attributes
    ----------
    largest : int
        Bytes that one payload may have.
    """

    def sync(self) -> None:
        """Put every commit so far on the disk, if commits do not wait for it."""
        self._check_writable()
        if not self.server.sync and not self.in_transaction:
            # Any transaction that writes and waits brings all earlier ones to the disk with it.
            with self.transaction():
                self._connections.run("SET LOCAL synchronous_commit = on", prepare=False)
                self._connections.run(self.server_sql.touch)

    def compact(self) -> None:
        """Let the space of deleted and overwritten rows be used again; readers and writers go on."""
        self._check_writable()
        with self._patiently():
            for table in ("entry", "claim", "info"):
                self._connections.run(f"VACUUM (ANALYZE) {table}", prepare=False)

    def integrity(self) -> list[str]:
        """What the server knows to be wrong with its indexes; [] if nothing."""
        return [str(row[0]) for row in self._read(_INVALID)]

    def stored_bytes(self) -> int:
        """Bytes of all tables and indexes of the store."""
        return int(self._read(_SIZE)[0][0])
