"""F1: kill -9 at random moments."""

import time

import pytest

from faults.judge import judge
from faults.processes import finish, kill, python, start

WRITERS = 4
BETWEEN_LOOKS = 25


def wait_for_work(log, fault):
    """Until the log of a writer grows."""
    deadline = time.monotonic() + 60
    size = log.stat().st_size if log.exists() else 0
    while not log.exists() or log.stat().st_size == size:
        if time.monotonic() > deadline:
            fault.hung(f"{log.name} wrote nothing for a minute")
            return
        time.sleep(0.005)


@pytest.mark.fault("F1", "kill -9 of one of 4 writers: set, put_many, del, loose, migrate, archive, compact")
def test_no_kill_of_a_writer_loses_what_was_acknowledged(fault, tmp_path, elsewhere):
    """Others go on; the next program finds every acknowledged value, and nobody's wait grows."""
    container, logs = tmp_path / "all.ampdb", [elsewhere / f"log{n}" for n in range(WRITERS)]

    def writer(number):
        return start(python("writer", container, logs[number], f"w{number}", fault.random.randrange(2**30)))

    writers = [writer(number) for number in range(WRITERS)]
    try:
        for count in range(fault.times(12, 1000)):
            number = fault.random.randrange(WRITERS)
            if fault.random.random() < 0.8:  # else while it starts, opens, or recovers
                wait_for_work(logs[number], fault)
            time.sleep(fault.random.uniform(0, 0.3))
            if writers[number].poll() is not None:
                fault.wrong(f"a writer ended by itself: {finish(writers[number], 5).errors[-500:]}")
            kill(writers[number])
            fault.injected()
            if count % BETWEEN_LOOKS == BETWEEN_LOOKS - 1:
                for process in writers:
                    kill(process)
                fault.judged(judge(container, logs))
                writers = [writer(number) for number in range(WRITERS)]
            else:
                writers[number] = writer(number)
    finally:
        for process in writers:
            kill(process)
    fault.judged(judge(container, logs))
    fault.fact(acknowledged=sum(line.startswith("!") for log in logs for line in log.read_text().splitlines()))
