"""The spool: what many hosts write at once into a directory of a network file system, without any lock.

Every writer appends to a segment of its own, a commit at a time, each with one fsync. A file per entry takes twice
the fsyncs and 1.5 times the calls, 130 times in batches of 100, and leaves a file per entry (`python -m
benchmarks.spool`).

    spool/node7-4711-5a….seg      commit | commit | … | half a commit: its writer was killed, nobody heard "stored"
    spool/node7-4711-5a….sealed   a hard link to it: a maintainer is about to fold and remove it
    spool/maintainer.8            see `ampstore.lease`

A commit counts if it is there as a whole. Each has a number larger than all that its writer had seen (Lamport's
clock, no wall clock), so that of two commits one after the other the second wins on every host. What of a
segment is in the store already is noted there, in the transaction that brought it in. So no crash between that
transaction and the removal of the segments brings an older value back.
"""

from ampstore.spool.directory import DIRECTORY, SEALED, Snapshot, Spool, check_folded, has_segments
from ampstore.spool.segment import Entry, Record, RemovedSegmentError

__all__ = [
    "DIRECTORY",
    "SEALED",
    "Entry",
    "Record",
    "RemovedSegmentError",
    "Snapshot",
    "Spool",
    "check_folded",
    "has_segments",
]
