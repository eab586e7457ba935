"""Two ways for many hosts to write into one directory of a network file system, measured side by side.

    python -m benchmarks.spool [--entries 1000] [--size 1000] [--writers 4] [--directory DIRECTORY]

loose     one durable file per entry: temporary file, fsync, rename, fsync of the directory (the legacy layout)
segment   one append-only file per writer, one fsync per commit (`ampstore.spool`)

Counted are files that are left, fsyncs and all calls that a server of a network file system has to answer (create,
write, sync, rename), by strace; and entries per second without strace, interleaved, the median of three rounds. The
disk here is a local one: over a network each of those calls takes a round trip, so their number is what counts.
"""

import argparse
import multiprocessing
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ampstore.codec import Codec
from ampstore.codec.legacy import dump_legacy
from ampstore.codec.safe import Rule
from ampstore.legacy.loose import Loose
from ampstore.spool import Record, Spool

CALLS = "openat,open,write,pwrite64,fsync,fdatasync,rename,link,unlink,mkdir,ftruncate"
DESIGNS = ("loose", "segment")


def write(design: str, directory: str, name: str, entries: int, size: int, batch: int) -> None:
    """Store entries as one writer."""
    values = [os.urandom(size) for _ in range(min(entries, 50))]
    if design == "loose":
        loose, rule = Loose(Path(directory) / "loose"), Rule()
        for number in range(entries):
            loose.write(f"{name}-{number}", dump_legacy(values[number % len(values)], rule))
        return
    spool, codec = Spool(Path(directory) / "spool"), Codec()
    for start in range(0, entries, batch):
        numbers = range(start, min(start + batch, entries))
        spool.append([Record(f"{name}-{number}", codec.encode(values[number % len(values)])) for number in numbers])
    spool.close()


def rate(design: str, arguments: argparse.Namespace, batch: int) -> float:
    """Entries per second of all writers together."""
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        share = arguments.entries // arguments.writers
        context = multiprocessing.get_context("fork")
        writers = [
            context.Process(target=write, args=(design, directory, f"w{number}", share, arguments.size, batch))
            for number in range(arguments.writers)
        ]
        start = time.perf_counter()
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        return share * arguments.writers / (time.perf_counter() - start)


def counts(design: str, arguments: argparse.Namespace, batch: int) -> tuple[int, int, int]:
    """Files, fsyncs and calls of one writer, per 1000 entries."""
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        call = f"write({design!r}, {directory!r}, 'w', 1000, {arguments.size}, {batch})"
        program = f"from benchmarks.spool import write; {call}"
        trace = Path(directory) / "trace"
        command = ["strace", "-f", "-e", f"trace={CALLS}", "-y", "-o", str(trace), sys.executable, "-c", program]
        subprocess.run(command, check=True, timeout=600)
        lines = [line for line in trace.read_text().splitlines() if f"{directory}/" in line and " = -1" not in line]
        synced = sum(bool(re.search(r"\bf(data)?sync\(", line)) for line in lines)
        files = sum(len(names) for _, _, names in os.walk(directory)) - 1
        return files, synced, len(lines)


def main(words: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=1000)
    parser.add_argument("--size", type=int, default=1000, help="bytes of one value")
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", help="where to write")
    arguments = parser.parse_args(words)
    rows = [("loose", 1), ("segment", 1), ("segment", 100)]
    rates = {row: list[float]() for row in rows}
    for _ in range(arguments.rounds):
        for row in rows:
            rates[row].append(rate(row[0], arguments, row[1]))
    first = statistics.median(rates[rows[0]])
    print("| design | entries per commit | files | fsyncs | calls | entries/s | of loose |")
    print("|---|---|---|---|---|---|---|")
    for design, batch in rows:
        counted = counts(design, arguments, batch) if shutil.which("strace") else ("?", "?", "?")
        found = statistics.median(rates[design, batch])
        cells = [design, batch, *counted, f"{found:,.0f}", f"{found / first:.2f}x"]
        print("| " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    main()
