"""Many writers on PostgreSQL and on SQLite, beside naive ORM code and LMDB: `python -m benchmarks.postgres`.

Every writer is a process that sets entries of 1 kB, one commit each, and times every call. It needs the
programs of a PostgreSQL server, or AMPSTORE_TEST_POSTGRES_URL. The server runs with its defaults, fsync
included, on this machine, so it shares the cores with the writers: on a server of its own it does better.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

SIZE = 1000


def _store(place: str, durability: Any = "full") -> Callable[[str, bytes], None]:
    from ampstore import Store

    return Store(place, timeout=120, durability=durability).__setitem__


def _orm(place: str) -> Callable[[str, bytes], None]:
    from sqlalchemy import LargeBinary, String, create_engine
    from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

    class Base(DeclarativeBase):
        pass

    class Entry(Base):
        __tablename__ = "naive"
        key: Mapped[str] = mapped_column(String, primary_key=True)
        value: Mapped[bytes] = mapped_column(LargeBinary)

    engine = create_engine(place)

    def put(key: str, value: bytes) -> None:
        with Session(engine) as session:
            session.merge(Entry(key=key, value=value))
            session.commit()

    Base.metadata.create_all(engine)
    return put


def _lmdb(place: str) -> Callable[[str, bytes], None]:
    import lmdb

    environment = lmdb.open(place, map_size=1 << 30)

    def put(key: str, value: bytes) -> None:
        with environment.begin(write=True) as transaction:
            transaction.put(key.encode(), value)

    return put


def _work(engine: Callable[..., Any], place: str, worker: int, seconds: float, barrier: Any, results: Any) -> None:
    errors, waits = 0, []
    put = engine(place)
    value = os.urandom(SIZE)
    barrier.wait(120)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.perf_counter()
        try:
            put(f"{worker}-{len(waits)}", value)
        except Exception:
            errors += 1
        waits.append(time.perf_counter() - start)
    results.put((waits, errors))


def measure(engine: Callable[..., Any], place: str, writers: int, seconds: float) -> list[str]:
    """One row of the table."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(writers), context.Queue()
    engine(place)("first", b"")
    started = [
        context.Process(target=_work, args=(engine, place, n, seconds, barrier, results)) for n in range(writers)
    ]
    for process in started:
        process.start()
    found = [results.get(timeout=seconds + 300) for _ in started]
    for process in started:
        process.join()
    waits = sorted(wait for some, _ in found for wait in some)
    counts = [len(some) for some, _ in found]
    p99, worst = waits[int(0.99 * len(waits))], waits[-1]
    return [
        f"{sum(counts) / seconds:,.0f}",
        f"{1e3 * p99:.1f}",
        f"{1e3 * worst:.0f}",
        f"{min(counts) / max(counts):.2f}",
        str(sum(errors for _, errors in found)),
    ]


def main() -> None:
    import postgres

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--writers", type=int, nargs="*", default=[1, 32])
    parser.add_argument("--seconds", type=float, default=5.0)
    given = parser.parse_args()
    postgres._SETTINGS["fsync"] = "on"
    server = postgres.Server()
    print("| engine | writers | sets/s | p99, ms | worst, ms | slowest/fastest | errors |")
    print("|---|---|---|---|---|---|---|")
    try:
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as directory:
            naive = server.url("x").replace("schema=x&", "")
            for writers in given.writers:
                engines: dict[str, tuple[Callable[..., Any], str]] = {
                    "ampstore on PostgreSQL": (_store, server.url(f"bench{writers}")),
                    "ampstore on PostgreSQL, sync=off": (_store, server.url(f"off{writers}", sync="off")),
                    "SQLAlchemy ORM on PostgreSQL": (_orm, naive),
                    "ampstore on SQLite, full": (_store, f"{directory}/{writers}.db"),
                    "SQLAlchemy ORM on SQLite": (_orm, f"sqlite:///{directory}/orm{writers}.db"),
                    "LMDB, synced": (_lmdb, f"{directory}/lmdb{writers}"),
                }
                for name, (engine, place) in engines.items():
                    print("|", " | ".join([name, str(writers), *measure(engine, place, writers, given.seconds)]), "|")
                    sys.stdout.flush()
    finally:
        server.close()


if __name__ == "__main__":
    main()
