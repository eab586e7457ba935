"""Memory of work that goes through all entries, measured from outside by the kernel's own count."""

import pytest

from benchmarks import memory
from benchmarks.processes import forget_peak

ENTRIES = 10_000
MB = 1_000_000
BOUNDS = {"items": 45, "copy": 90, "migrate": 45, "calculate_items": 45}
"""MB, where the values are 100: SQLite's cache of 16 and some chunks of 8, which each thread of a copy has."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A store and loose files, 100 MB each."""
    try:
        forget_peak()
    except OSError:
        pytest.skip("this system does not forget the peak of a process")
    found = tmp_path_factory.mktemp("memory")
    memory.prepare(found, ENTRIES)
    return found


@pytest.mark.parametrize("operation", memory.OPERATIONS)
def test_work_on_all_entries_needs_memory_for_some_chunks_only(operation, place):
    """Iterating, copying, migrating, calculating: whatever the values are in all."""
    assert memory.VALUE * ENTRIES == 100 * MB
    assert memory.peak(operation, place, ENTRIES) < BOUNDS[operation] * MB


def test_what_holds_all_values_is_seen(place, monkeypatch):
    """The measure can fail: a list of all values is more than any bound."""
    everything = memory.OPERATIONS["items"].replace("sum(1 for _ in store.items())", "len(list(store.items()))")
    monkeypatch.setitem(memory.OPERATIONS, "items", everything)
    assert memory.peak("items", place, ENTRIES) > max(BOUNDS.values()) * MB
