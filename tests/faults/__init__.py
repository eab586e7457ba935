"""Real faults, injected on purpose, and a judge that looks afterwards.

    acknowledged  what a worker was promised: a log on another file system, written after the call returned
    judge         compares a store with those logs, by plain sqlite3 and by ampstore: lost, wrong
    record        what was injected, how often, and what became of it: the fixture `fault` and its JSON
    processes     start, kill and trace processes, each wait bounded
    table         the JSON as the table in docs/reliability.md

`pytest tests/faults` runs the short version of each fault, `make faults` the long one. Every test
prints its seed; AMPSTORE_FAULT_SEED sets it.
"""
