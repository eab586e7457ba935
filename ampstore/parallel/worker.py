"""What runs in a worker process: take chunks of jobs, send every result as soon as it is there.

    master  -> worker   setup: function, main script, safe    -> "ready" or "unusable", reason
    master  -> worker   chunk: [(key, image), ...]            -> "result", key, value, seconds   (each at once)
                                                              -> "failure", Failure, seconds
    master  -> worker   ""                                    the worker ends

A worker is a fresh interpreter (nothing is forked) that imports the main script only if the
calculator or an image is defined there. It ends when the master does, also while it calculates: a
thread reads the socket. `safe` results are for another machine: they are pickled by themselves, under the
rule by which they will be read there. Ctrl-C and SIGTERM reach the whole group of processes; workers leave the
answer to the master.
"""

import functools
import os
import queue
import runpy
import signal
import socket
import sys
import threading
import time
import types
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any

from ampstore.errors import CalculatorError
from ampstore.parallel.channel import receive_frame, send_frame
from ampstore.parallel.work import Failure, Function

if TYPE_CHECKING:
    from ampstore.codec.safe import Rule

MASTER_IS_GONE = 3

_importing_main = False
_has_main = False


def is_importing_main() -> bool:
    """Whether this is a worker that is importing the main script."""
    return _importing_main


def main(descriptor: int) -> None:
    """Work for the master at the other end of a socket."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # Not SIG_IGN, which programs that a calculator starts would inherit.
        signal.signal(number, _leave_to_master)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    os.set_inheritable(descriptor, False)
    end = socket.socket(fileno=descriptor)
    frames: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(end, frames), daemon=True).start()
    try:
        _work(end, frames)
    except (BrokenPipeError, ConnectionError):
        os._exit(MASTER_IS_GONE)


def _leave_to_master(*_: object) -> None:
    pass


def _read(end: socket.socket, frames: "queue.SimpleQueue[bytes]") -> None:
    while (frame := receive_frame(end)) is not None:
        frames.put(frame)
    os._exit(MASTER_IS_GONE)


def _work(end: socket.socket, frames: "queue.SimpleQueue[bytes]") -> None:
    pickled, origin, safe = loads(frames.get())
    try:
        if b"__main__" in pickled:
            import_main(*origin)
        function: Function = loads(pickled)
    except BaseException as err:  # noqa: BLE001 - whatever a script does when it is imported
        send_frame(end, dumps(("unusable", Failure.of("", err))))
        return
    send_frame(end, dumps(("ready",)))
    while frame := frames.get():
        for key, image in loads(frame):
            start = time.perf_counter()
            try:
                if b"__main__" in image:
                    import_main(*origin)
                value = function(loads(image), key)
                seconds = time.perf_counter() - start
                message = dumps(("result", key, safe_rule().dumps(value) if safe else value, seconds))
            except BaseException as err:  # noqa: BLE001 - SystemExit of one image is its failure too
                message = dumps(("failure", Failure.of(key, err), time.perf_counter() - start))
            send_frame(end, message)


def dumps(value: object) -> bytes:
    """Pickle of a value."""
    return bytes(ForkingPickler.dumps(value))


def loads(data: bytes) -> Any:
    """Value of a pickle from the other end of a socket pair, which is a process of this program."""
    return ForkingPickler.loads(data)


@functools.cache
def safe_rule() -> "Rule":
    """What results may name that come from other machines: values as a store keeps them, or their blobs."""
    from ampstore.codec.safe import Rule

    return Rule(["ampstore.codec.Blob"])


def pickled(function: Function) -> bytes:
    """Pickle of a function that workers can use.

    Raises
    ------
    CalculatorError
        If there is none.
    """
    try:
        found = dumps(function)
        loads(found)
    except Exception as err:
        reason = f"it cannot be pickled for workers ({type(err).__name__}: {err}); use parallel={{'cores': 1}}"
        raise CalculatorError(kind_of(function), reason) from err
    return found


def kind_of(function: Function) -> str:
    """What people call a function: the type of the calculator that is behind it."""
    return str(getattr(function, "kind", "") or getattr(function, "__qualname__", "") or type(function).__name__)


def import_main(name: str | None, path: str | None) -> None:
    """Import the main script of the master as `__main__`, without running what it guards; once."""
    global _importing_main, _has_main  # noqa: PLW0603 - a script that is not guarded must be found out
    if _has_main:
        return
    module = types.ModuleType("__mp_main__")
    _importing_main = True
    try:
        if name is not None:
            found = runpy.run_module(name, run_name="__mp_main__", alter_sys=True)
        elif path is not None:
            found = runpy.run_path(path, run_name="__mp_main__")
        else:
            raise ImportError("the calculator is defined in an interactive session; define it in a module")
    finally:
        _importing_main = False
    module.__dict__.update(found)
    for thing in found.values():
        # Results are stored under the name that the class has in the script.
        if getattr(thing, "__module__", None) == "__mp_main__" and hasattr(thing, "__qualname__"):
            thing.__module__ = "__main__"
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module
    _has_main = True


def main_of_this_process() -> tuple[str | None, str | None]:
    """Module name and path of the main script, as `import_main` wants them."""
    script = sys.modules["__main__"]
    spec = getattr(script, "__spec__", None)
    if spec is not None:
        return spec.name, None
    path = getattr(script, "__file__", None)
    return None, os.path.abspath(path) if path else None
