"""F29: SIGINT and SIGTERM anywhere, and programs that end with an open store."""

import os
import signal
import sys
import time

import pytest

import ampstore
from faults.judge import judge
from faults.processes import finish, python, run, start

LONGEST = 20.0  # s, on a machine with much else to do; what it was is in the table, and should be under 2


@pytest.mark.fault("F29", "SIGINT and SIGTERM at random moments of programs that write, and of the command")
def test_signals_end_programs_at_once_and_lose_nothing(fault, tmp_path, elsewhere):
    """A program ends as Python programs do, the command without a traceback; what was acknowledged is there."""
    container = tmp_path / "a.ampdb"
    slow = 0.0
    logs = []
    for number in range(fault.times(6, 80)):
        logs.append(elsewhere / f"log{number}")
        process = start(python("writer", container, logs[-1], f"w{number}", fault.random.randrange(2**30)))
        deadline = time.monotonic() + 60
        while not logs[-1].exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(fault.random.uniform(0, 0.5))
        begun = time.monotonic()
        os.kill(process.pid, fault.random.choice((signal.SIGINT, signal.SIGTERM)))
        ended = finish(process, 30)
        slow = max(slow, time.monotonic() - begun)
        fault.injected()
        if ended.hung:
            fault.hung(f"a writer: {ended.errors[-500:]}")
        elif ended.code not in (-signal.SIGINT, -signal.SIGTERM, 130, 143, 1):
            fault.wrong(f"a writer ended with {ended.code}: {ended.errors[-300:]}")
        elif "Exception ignored" in ended.errors or "Fatal" in ended.errors:
            fault.wrong(f"noise at the end: {ended.errors[-500:]}")
    fault.judged(judge(container, logs))
    for command in (
        ["verify", container],
        ["migrate", container],
        ["ls", container],
        ["export", container, tmp_path / "x"],
    ):
        for _ in range(fault.times(1, 10)):
            process = start([sys.executable, "-m", "ampstore", *command])
            time.sleep(fault.random.uniform(0.05, 1.0))
            process.send_signal(fault.random.choice((signal.SIGINT, signal.SIGTERM)))
            ended = finish(process, 30)
            fault.injected()
            if ended.hung:
                fault.hung(f"{command}")
            elif "Traceback" in ended.errors and "ampstore/cli" in ended.errors:
                fault.wrong(f"{command[0]} showed a traceback: {ended.errors[-500:]}")
    fault.judged(judge(container, logs))
    fault.fact(slowest_end_seconds=round(slow, 2))
    if slow > LONGEST:
        fault.hung(f"a writer took {slow:.1f} s to end")


@pytest.mark.fault("F29", "programs that end with an open store, an open batch, an open iteration, threads at work")
def test_a_program_may_end_with_an_open_store(fault, tmp_path):
    """What was set is there, an open batch is not, and nothing is printed."""
    endings = {
        "open": "",
        "iterating": "items = iter(store.items()); next(items)",
        "batch": "batch = store.batch(); batch.__enter__(); store['half'] = 1",
        "exit": "raise SystemExit(0)",
        "thread": "import threading; threading.Thread(target=lambda: [store.get('a') for _ in range(100)]).start()",
        "global": "import builtins; builtins.kept = store",
    }
    for name, ending in endings.items():
        path = tmp_path / f"{name}.db"
        ended = run(
            [
                sys.executable,
                "-c",
                f"import ampstore\nstore = ampstore.Store({str(path)!r})\nstore['a'] = 1\n{ending}\n",
            ]
        )
        fault.injected()
        if ended.hung:
            fault.hung(name)
        elif ended.code or ended.output or ended.errors:
            fault.wrong(f"{name}: {ended.code} {ended.errors[-500:]}")
        with ampstore.Store(path) as store:
            if dict(store) != {"a": 1}:
                fault.lost(f"{name}: {dict(store)}")
