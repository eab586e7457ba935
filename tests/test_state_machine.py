"""A dict beside Store, Shelf, FileDatabase and LegacyDatabase, driven at random, with reopening."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

import ampstore

KEYS = st.sampled_from(["a", "b", "c", "key with blank", "ü", ".hidden", "k" * 200])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=50),
    lambda inner: (
        st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=15,
)


class Machine(RuleBasedStateMachine):
    """Operations that every mapping has; subclasses say how to open one."""

    @initialize()
    def start(self):
        self.directory = Path(tempfile.mkdtemp(prefix="ampstore-test-"))
        self.oracle = {}
        self.mapping = self.open()

    def open(self):
        raise NotImplementedError

    @rule(key=KEYS, value=VALUES)
    def set(self, key, value):
        self.mapping[key] = value
        self.oracle[key] = value

    @rule(key=KEYS)
    def get(self, key):
        if key in self.oracle:
            found = self.mapping[key]
            assert repr(found) == repr(self.oracle[key])
        else:
            with pytest.raises(KeyError):
                self.mapping[key]

    @rule(key=KEYS)
    def delete(self, key):
        if key in self.oracle:
            del self.mapping[key]
            del self.oracle[key]
        else:
            with pytest.raises(KeyError):
                del self.mapping[key]

    @rule(items=st.dictionaries(KEYS, VALUES, max_size=4))
    def update(self, items):
        self.mapping.update(items)
        self.oracle.update(items)

    @rule(key=KEYS, value=VALUES)
    def setdefault(self, key, value):
        assert repr(self.mapping.setdefault(key, value)) == repr(self.oracle.setdefault(key, value))

    @rule(key=KEYS)
    def pop(self, key):
        assert repr(self.mapping.pop(key, "none")) == repr(self.oracle.pop(key, "none"))

    @rule()
    def reopen(self):
        self.mapping.close()
        self.mapping = self.open()

    @invariant()
    def holds_what_the_dict_holds(self):
        if not hasattr(self, "mapping"):
            return
        assert len(self.mapping) == len(self.oracle)
        assert sorted(self.mapping) == sorted(self.oracle)
        assert all(key in self.mapping for key in self.oracle)
        assert {key: repr(value) for key, value in self.mapping.items()} == {k: repr(v) for k, v in self.oracle.items()}

    def teardown(self):
        if hasattr(self, "mapping"):
            self.mapping.close()
            shutil.rmtree(self.directory)


class Transactions:
    """Rules of mappings that have batches."""

    @rule(items=st.dictionaries(KEYS, VALUES, max_size=3), fails=st.booleans())
    def batch(self, items, fails):
        store = getattr(self.mapping, "dict", self.mapping)
        with pytest.raises(ZeroDivisionError) if fails else store.batch(), store.batch():
            for key, value in items.items():
                store[key] = value
            if fails:
                _ = 1 / 0
        if not fails:
            self.oracle.update(items)

    @rule()
    def compact(self):
        getattr(self.mapping, "dict", self.mapping).compact()


class StoreMachine(Transactions, Machine):
    def open(self):
        return ampstore.Store(self.directory / "a.db", cache=1000)

    @rule()
    def order_is_that_of_the_dict(self):
        assert list(self.mapping) == list(self.oracle)


class ShelfMachine(Transactions, Machine):
    def open(self):
        return ampstore.open(self.directory / "a.db")


class WritebackMachine(Machine):
    def open(self):
        return ampstore.open(self.directory / "a.db", writeback=True)


class LegacyMachine(Machine):
    def open(self):
        return ampstore.LegacyDatabase(self.directory / "a")

    @rule()
    def archive(self):
        self.mapping.archive()


class FileDatabaseMachine(Machine):
    """With a legacy program that writes, deletes and archives in the same container."""

    def open(self):
        return ampstore.FileDatabase(self.directory / "a")

    @property
    def legacy(self):
        return ampstore.LegacyDatabase(self.directory / "a")

    @rule(key=KEYS, value=VALUES)
    def legacy_program_writes(self, key, value):
        self.legacy[key] = value
        self.oracle[key] = value

    @rule()
    def archive(self):
        self.mapping.archive()

    @rule()
    def migrate(self):
        if self.mapping.path.is_dir():
            assert ampstore.import_legacy(self.mapping.path).complete

    @rule()
    def container_is_removed(self):
        shutil.rmtree(self.mapping.path, ignore_errors=True)
        self.oracle.clear()


MACHINES = [StoreMachine, ShelfMachine, WritebackMachine, LegacyMachine, FileDatabaseMachine]


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.__name__)
def test_no_sequence_of_operations_tells_it_from_a_dict(machine):
    """Hypothesis looks for one."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        machine, settings=settings(max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=checks)
    )
