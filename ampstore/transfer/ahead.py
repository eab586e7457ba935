"""Steps of one line at work at the same time: each in threads of its own, results in the order of the items.

    item 3 is read | item 2 is written | item 1 is read back

Threads, not processes: SQLite, libpq, zstd and CRC let go of the interpreter, and a payload need not be pickled to
get there. Nothing is taken from the line before there is room for it, so memory is that of some items.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(items: Iterator[Item], work: Callable[[Item], Result], threads: int = 1) -> Iterator[Result]:
    """Results of `work`, done in other threads while the caller takes the next item, and uses the last result.

    Parameters
    ----------
    items : iterator
        Taken by the caller's thread, at most `threads` + 1 ahead of the results.
    work : callable
        With one thread, an item is begun when the one before it is done. An error of it is raised here; after it
        no item is begun, and what was begun ends first.
    threads : int
        0 for none: every item is worked on when its result is asked for.
    """
    if not threads:
        yield from map(work, items)
        return
    failed = threading.Event()

    def attempt(item: Item) -> Result:
        if failed.is_set():
            raise CancelledError
        try:
            return work(item)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(threads, thread_name_prefix="ampstore-copy") as pool:
        waiting = deque["Future[Result]"]()
        try:
            for item in items:
                waiting.append(pool.submit(attempt, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            failed.set()
            pool.shutdown(wait=False, cancel_futures=True)
