"""The benchmarks measure what they say: engines give back what they were given, results are written and compared."""

import importlib
import json
import random
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from benchmarks import all as everything
from benchmarks import compare, fairness, growth, migration, peers, plots, report, targets
from benchmarks.document import document, read, write
from benchmarks.engines import ENGINES, drop_from_page_cache, is_present, opened, size_on_disk
from benchmarks.operations import COLD, OPERATIONS, make_plan
from benchmarks.values import EXAMPLES, KINDS, Values, equal, generic, key_of, load, vary
from benchmarks.workload import Result, Setting, WrongValueError, measure

ALWAYS = ["ampstore", "ampstore, full", "sqlite3 loop", "shelve, dumb", "legacy loose", "legacy archive"]


@pytest.fixture(scope="module")
def values():
    """One value of each kind."""
    source = load(EXAMPLES, 8)
    return [generic(0), *(vary(source.kinds[kind][0], random.Random(0)) for kind in KINDS)]


@pytest.fixture(scope="module")
def result():
    """What two rounds of the engines that are always there found."""
    return measure(Values("generic 1 kB", 6, generic), 6, Setting(ALWAYS, 2))


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_gives_back_what_was_put(name, values, tmp_path):
    """Every value of Amp comes back the same after closing and opening, and so do sets, overwrites and deletes."""
    if not is_present(name):
        pytest.skip(f"{ENGINES[name].distribution} is not installed")
    pairs = {key_of(number): value for number, value in enumerate(values)}
    engine = opened(name, str(tmp_path))
    engine.put_many(pairs.items())
    engine.close()
    engine = opened(name, str(tmp_path))
    try:
        if not engine.readonly:
            engine.put(key_of(10), "new")
            pairs[key_of(10)] = "new"
            if "overwrite" not in engine.cannot:
                engine.put(key_of(1), [1, 2.5])
                pairs[key_of(1)] = [1, 2.5]
            if "delete" not in engine.cannot:
                engine.delete(key_of(0))
                del pairs[key_of(0)]
        assert all(equal(engine.get(key), value) for key, value in pairs.items())
        assert [engine.contains(key) for key in (*pairs, key_of(11))] == [True] * len(pairs) + [False]
        assert engine.missing([*pairs, key_of(11)]) == [key_of(11)]
        if "len" not in engine.cannot:
            assert engine.count() == len(pairs)
        if "keys" not in engine.cannot:
            assert sorted(engine.keys()) == sorted(pairs)
        if "items" not in engine.cannot:
            assert all(equal(value, pairs[key]) for key, value in engine.items())
    finally:
        engine.close()
        if name == "zarr":  # its event loop lives as long as the process
            importlib.import_module("zarr.core.sync").cleanup_resources()
    assert size_on_disk(str(tmp_path)) > 0
    drop_from_page_cache(str(tmp_path))


def test_every_operation_is_timed_for_every_engine_that_can_do_it(result):
    """A cell of the table is empty only where an engine cannot."""
    for operation in OPERATIONS:
        able = {
            name
            for name in ALWAYS
            if operation.name not in ENGINES[name].cannot and not (operation.writes and ENGINES[name].readonly)
        }
        assert set(result.times[operation.name]) == able
        assert all(len(rounds) == 2 and min(rounds) > 0 for rounds in result.times[operation.name].values())
    assert set(result.times[COLD]) == set(result.sizes) == set(ALWAYS)


def test_an_engine_that_forgets_is_refused(monkeypatch):
    """Times of an engine that gives back something else would mean nothing."""
    monkeypatch.setattr(ENGINES["sqlite3 loop"], "get", lambda _self, _key: None)
    with pytest.raises(WrongValueError, match="sqlite3 loop"):
        measure(Values("generic 1 kB", 4, generic), 4, Setting(["ampstore", "sqlite3 loop"], 1))


def test_overwrites_differ_from_what_they_replace():
    """Ampstore does not write an unchanged value again, which would look like speed."""
    plan = make_plan(Values("generic 1 kB", 6, generic), 6)
    stored = dict(plan.stored)
    assert all(value != stored[key] for key, value in plan.changed)


def test_results_are_written_as_tables_json_and_pictures(result, tmp_path):
    """The document that is read back has the numbers of the tables; the picture is one."""
    write(tmp_path / "peers.json", peers.as_document([result]))
    content = read(tmp_path / "peers.json")
    assert Result(**content["results"][0]).sizes.keys() == result.sizes.keys()
    cost = content["metrics"]["generic 1 kB | get | sqlite3 loop"]
    ours, theirs = (result.times["get"][name] for name in ("ampstore", "sqlite3 loop"))
    assert cost == pytest.approx([one / other for one, other in zip(ours, theirs, strict=True)], rel=1e-3)
    text = report.text([result], ALWAYS)
    assert all(f"| {name} |" in text for name in ALWAYS)
    pytest.importorskip("matplotlib")
    plots.ratios([result], tmp_path / "peers.png")
    assert (tmp_path / "peers.png").read_bytes().startswith(b"\x89PNG")


def test_synced_writes_are_set_beside_synced_writes(result):
    """An engine that syncs each commit is not compared with ampstore that does not."""
    assert report.equal_to("LMDB", "set", result) == "ampstore, full"
    assert report.equal_to("LMDB", "get", result) == report.equal_to("diskcache", "set", result) == "ampstore"


def test_growth_is_measured_and_drawn(tmp_path, monkeypatch):
    """Each operation at each size, beside the small store of the same round."""
    monkeypatch.setattr(growth, "ENTRIES", {"quick": (20, 40)})
    monkeypatch.setattr(growth, "SMALLEST", 10)
    monkeypatch.setattr(growth, "BYTES", {"quick": 1000})
    monkeypatch.setattr(growth, "ROUNDS", {"quick": 1})
    monkeypatch.setattr(growth, "LARGE", ("ampstore", "sqlite3 loop"))
    monkeypatch.setattr(growth, "READS", 10)
    monkeypatch.setattr(growth, "COMMITS", 2)
    content = growth.run("quick", str(tmp_path), str)
    assert {"get, 40 entries to 10", "missing, 40 entries, to a listing of loose files"} <= set(content["metrics"])
    assert set(content["entries"]["verify, all"]["ampstore"]) == {"20", "40"}
    assert set(content["values"]["get"]["ampstore"]) == {"100", "1000"}
    assert all(sheet.rows for sheet in growth.sheets(content))
    pytest.importorskip("matplotlib")
    gets = {part: {"get": content[part]["get"]} for part in ("entries", "values")}
    plots.growth(content | gets, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_migration_counts_what_was_migrated(tmp_path, monkeypatch):
    """The programs run on files that are made here, and the table has a row for each."""
    monkeypatch.setenv("AMPSTORE_CORPUS", str(EXAMPLES))
    monkeypatch.setattr(migration, "FILES", {"quick": {"neighborlists": 3}})
    monkeypatch.setattr(migration, "ROUNDS", {"quick": 1})
    monkeypatch.setattr(migration, "commands", _one_job)
    content = migration.run("quick", str(tmp_path), str)
    (rows,) = [sheet.rows for sheet in migration.sheets(content)]
    assert [row[1] for row in rows] == [migration.ONE_JOB]
    assert content["runs"]["neighborlists"][migration.ONE_JOB][0]["memory"] > 1e6


_commands = migration.commands


def _one_job(container, target):
    return {migration.ONE_JOB: _commands(container, target)[migration.ONE_JOB]}


def test_compare_names_what_became_dearer(tmp_path):
    """Only what lies outside the spread of both counts; the exit code says whether it is too much."""
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    write(old, document("peers", {"get": [1.0, 1.1], "set": [1.0, 2.0], "len": [3.0], "gone": [1.0]}))
    write(new, document("peers", {"get": [2.0, 2.2], "set": [1.5, 2.5], "len": [1.5], "more": [1.0]}))
    found = {one.name: one.verdict for one in compare.changes(compare.metrics_of(old), compare.metrics_of(new))}
    assert found == {
        "peers: get": "dearer",
        "peers: set": "same",
        "peers: len": "cheaper",
        "peers: more": "new",
        "peers: gone": "gone",
    }
    assert CliRunner().invoke(compare.main, [str(old), str(new)]).exit_code == 0
    told = CliRunner().invoke(compare.main, [str(old), str(new), "--fail-over", "0.5"])
    assert told.exit_code == 1
    assert "peers: get" in told.output


def test_compare_refuses_what_is_no_result(tmp_path):
    """A sentence that names the file, no traceback."""
    (tmp_path / "a.json").write_text(json.dumps([1]))
    told = CliRunner().invoke(compare.main, [str(tmp_path / "a.json"), str(tmp_path / "a.json")])
    assert told.exit_code == 1
    assert "is no result of these benchmarks" in told.output


def test_a_release_in_the_history_can_be_read():
    """What is kept of a release is what `compare` reads."""
    for file in (Path(compare.__file__).parent / "history").glob("*.json"):
        assert compare.metrics_of(file)


def test_targets_are_judged_by_the_median(tmp_path):
    """Met, met narrowly, missed, and not measured are told apart; every target names a benchmark that exists."""
    metrics = {
        "generic 1 kB | get | sqlite3 loop": [1.0, 1.2, 1.1],
        "generic 1 kB | set | sqlite3 loop": [1.0, 1.2, 1.3],
        "generic 1 kB | contains | sqlite3 loop": [2.0, 3.0],
    }
    write(tmp_path / "peers.json", document("peers", metrics))
    found = targets.judged(targets.read_all(tmp_path))
    answers = {(one.target.group, one.target.what): one.answer for one in found}
    small = "small values, to the minimal sqlite3 loop"
    assert answers[small, "get"] == "yes"
    assert answers[small, "set"] == "yes, narrowly"
    assert answers[small, "contains"] == "no"
    assert answers[small, "bulk set"] == "not measured"
    assert {one.target.benchmark for one in found} <= set(everything.SECTIONS)
    told = CliRunner().invoke(targets.main, ["--from", str(tmp_path)])
    assert told.exit_code == 0, told.output
    assert "2 of 3 reached" in told.output


def test_rows_of_many_writers_are_turned_into_costs():
    """Lower is better in all of them, and what was not measured is left out."""
    run = {"rate": 1000.0, "fairness": 0.5, "worst": 20.0, "errors": 0}
    rows = [
        {"engine": name, "processes": processes, "runs": [run | {"rate": rate}]}
        for name, processes, rate in (("ampstore", 1, 1000.0), ("ampstore", 16, 800.0), ("diskcache", 16, 400.0))
    ]
    assert fairness.as_document(rows)["metrics"] == {
        "ampstore | rate of 1 to 16 writers": [1.25],
        "ampstore | fastest to slowest writer": [2.0],
        "ampstore | worst wait, ms": [20.0],
        "ampstore | errors": [0.0],
        "ampstore | rate of diskcache to ours": [0.5],
    }


def test_every_benchmark_that_is_there_has_its_options():
    """The command that runs all gives each only options that it has."""
    for name in everything.there():
        section = everything.SECTIONS[name]
        if section.printed:
            continue
        module = "benchmarks.__main__" if section.module == "benchmarks" else section.module
        main = pytest.importorskip(module).main  # a peer that it imports may be lacking
        if not isinstance(main, click.Command):
            continue
        options = {option for parameter in main.params for option in parameter.opts}
        assert set(section.outputs) | {f"--{effort}" for effort in section.efforts} <= options


def test_random_batches_are_timed_for_every_reader(tmp_path):
    """Every sample of an epoch arrives, through PyTorch's own DataLoader, in this process."""
    pytest.importorskip("torch")
    from benchmarks import readers

    times = readers.measure(Values("generic 1 kB", 20, generic), 20, 8, 2, [0], str(tmp_path))
    assert list(times) == ["ampstore", *(name for name in readers.PEERS if is_present(name))]
    assert all(len(found[0]) == 2 for found in times.values())
    assert "ampstore" in str(readers.sheet("title", times).rows)


def test_the_start_of_commands_is_timed_from_outside(tmp_path):
    """Each command line works, and the two that a person waits for become metrics, in milliseconds."""
    from benchmarks import startup

    found = startup.measure(1, tmp_path)
    assert {startup.PYTHON, startup.CLICK, startup.HELP, startup.LS, startup.GET} <= set(found)
    assert all(len(times) == 1 and times[0] > 0 for times in found.values())
    assert startup.as_document(found)["metrics"]["ampstore ls | ms"] == pytest.approx(
        [1e3 * found[startup.LS][0]], rel=1e-3
    )
    assert [row[0] for row in startup.sheet(found).rows] == list(found)


def test_several_threads_are_timed_beside_one():
    """A ratio for each round, of encoding and of decoding."""
    from benchmarks import threads

    found = {"generic 1 kB": threads.measure(Values("generic 1 kB", 20, generic), 2, 2)}
    assert all(len(found["generic 1 kB"][name]) == 2 for name in threads.OPERATIONS)
    assert sorted(threads.as_document(found)["metrics"]) == [
        f"generic 1 kB | {name} | one thread" for name in ("decode", "encode")
    ]
    assert len(threads.sheet(found, 2).rows) == 1
