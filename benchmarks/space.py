"""`python -m benchmarks.space URL`: bytes that an entry takes in a PostgreSQL server, for docs/scaling.md.

Random payloads, which compress no further, under keys as `get_hash` makes them, in a schema of their own
that is dropped afterwards. Table, TOAST and indexes are what the server says after VACUUM; WAL is what the
server wrote meanwhile, whoever made it write: keep it idle. Full-page images after a checkpoint are part of it.
"""

import os
import time
import uuid
from collections.abc import Callable
from contextlib import closing

import click
import psycopg

from ampstore import Store

SIZES = {100: 20_000, 1_000: 20_000, 2_600: 10_000, 90_000: 500}
"""Bytes of a payload: entries."""
COLUMNS = (
    "payload",
    "entries",
    "table",
    "TOAST",
    "indexes",
    "WAL, bulk",
    "WAL, single",
    "bulk, entries/s",
    "single, commits/s",
)
SPACE = """
SELECT pg_relation_size('{0}.entry'),
       pg_total_relation_size('{0}.entry') - pg_relation_size('{0}.entry') - pg_indexes_size('{0}.entry'),
       pg_indexes_size('{0}.entry')
"""


@click.command()
@click.argument("url")
@click.option("--scale", default=1.0, help="Times as many entries.")
def main(url: str, scale: float) -> None:
    """Fill one schema for each size in bulk, then add a hundredth entry by entry."""
    click.echo("| " + " | ".join(COLUMNS) + " |")
    click.echo("|" + " --- |" * len(COLUMNS))
    for size, entries in SIZES.items():
        click.echo("| " + " | ".join(f"{number:,.0f}" for number in _measure(url, size, int(entries * scale))) + " |")


def _measure(url: str, size: int, entries: int) -> list[float]:
    schema = f"space_{uuid.uuid4().hex[:8]}"
    single = max(entries // 100, 1)
    place = f"{url}{'&' if '?' in url else '?'}schema={schema}"
    with closing(psycopg.connect(url.replace("+psycopg", ""), autocommit=True)) as connection:
        try:
            with Store(place) as store:
                store["warm"] = b""
                bulk = _timed(connection, lambda: store.put_many((_key(), os.urandom(size)) for _ in range(entries)))
                each = _timed(connection, lambda: [store.__setitem__(_key(), os.urandom(size)) for _ in range(single)])
            connection.execute(f"VACUUM {schema}.entry")
            parts = connection.execute(SPACE.format(schema)).fetchall()[0]
            space = [part / (entries + single) for part in parts]
        finally:
            connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
    (bulk_wal, bulk_time), (each_wal, each_time) = bulk, each
    return [size, entries, *space, bulk_wal / entries, each_wal / single, entries / bulk_time, single / each_time]


def _key() -> str:
    return uuid.uuid4().hex


def _timed(connection: psycopg.Connection, work: Callable[[], object]) -> tuple[float, float]:
    """Bytes of WAL and seconds."""
    before = _position(connection)
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    return _position(connection) - before, seconds


def _position(connection: psycopg.Connection) -> int:
    return int(connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchall()[0][0])


if __name__ == "__main__":
    main()
