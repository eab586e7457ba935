"""Memory of work that goes through all entries, measured from outside by the kernel's own count."""

import os

import pytest

from ampstore import Store
from benchmarks import memory

ENTRIES = 10_000
MB = 1_000_000
BOUNDS = {"items": 45, "copy": 90, "migrate": 45, "calculate_items": 45}
"""MB, where the values are 100: SQLite's cache of 16 and some chunks of 8, which each thread of a copy has."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A store and loose files, 100 MB each."""
    found = tmp_path_factory.mktemp("memory")
    memory.prepare(found, ENTRIES)
    return found


@pytest.mark.parametrize("operation", memory.OPERATIONS)
def test_work_on_all_entries_needs_memory_for_some_chunks_only(operation, place):
    """Iterating, copying, migrating, calculating: whatever the values are in all."""
    assert memory.VALUE * ENTRIES == 100 * MB
    assert memory.peak(operation, place, ENTRIES) < BOUNDS[operation] * MB


def test_iteration_needs_memory_for_a_few_large_values_only(tmp_path):
    """200 MB in values of 1 MB are read with far less."""
    with Store(tmp_path / "a.db") as store:
        store.put_many((f"k{n}", os.urandom(1_000_000)) for n in range(200))
    assert memory.peak("items", tmp_path, 200) < 80_000 << 10


def test_what_holds_all_values_is_seen(place, monkeypatch):
    """The measure can fail: a list of all values is more than any bound."""
    everything = memory.OPERATIONS["items"].replace("sum(1 for _ in store.items())", "len(list(store.items()))")
    monkeypatch.setitem(memory.OPERATIONS, "items", everything)
    assert memory.peak("items", place, ENTRIES) > max(BOUNDS.values()) * MB
