"""Where to work: batch systems, machines, what people give themselves."""

import builtins
import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from ampstore.cores import SYSTEMS, allocation, assign_cores, detect, usable_cores
from ampstore.cores.job import MOST_HOSTS, MOST_TEXT, read_text
from ampstore.errors import AllocationError, CoresError

DATA = ROOT / "tests" / "data"
ENVIRONMENTS = json.loads((DATA / "environments.json").read_text())


def reader_of(files):
    def read(path):
        if path not in files:
            raise FileNotFoundError(2, "No such file or directory", path)
        return files[path]

    return read


def found(entry):
    files = {"/proc/sys/kernel/hostname": entry["host"] + "\n", **entry.get("files", {})}
    return allocation(entry["environment"], reader_of(files))


def detected(host="n1", files=None, **environment):
    return detect(environment, reader_of({"/proc/sys/kernel/hostname": host, **(files or {})}))


# -- the corpus ------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", ENVIRONMENTS, ids=lambda entry: f"{entry['system']}: {entry['name']}")
def test_environments_of_batch_systems(entry):
    """Hosts and cores in their order, or an error that names the variable."""
    if "error" in entry:
        with pytest.raises(AllocationError) as caught:
            found(entry)
        assert caught.value.variable == entry["error"]
        assert "cores={" in str(caught.value)
    else:
        assert list(found(entry).hosts.items()) == list(entry["hosts"].items())
        assert found(entry).system == entry["system"]


def test_the_corpus_has_every_system_and_names_its_sources():
    """At least 60 environments; each says where its form comes from."""
    assert len(ENVIRONMENTS) >= 60
    assert {entry["system"] for entry in ENVIRONMENTS} == {*SYSTEMS, "this machine"}
    for entry in ENVIRONMENTS:
        assert entry["origin"] in ("documented", "recorded")
        assert "://" in entry["source"] or "(" in entry["source"]


def test_the_table_in_the_docs_is_that_of_the_corpus():
    """After a change of the corpus: python tests/data/make_table_of_environments.py."""
    script = DATA / "make_table_of_environments.py"
    shown = subprocess.run([sys.executable, script, "--print"], check=True, capture_output=True, text=True).stdout
    assert shown in (ROOT / "docs" / "cores.md").read_text()
    assert shown.count("\n") >= len(ENVIRONMENTS)


# -- hostile and broken variables ------------------------------------------------------------------


@pytest.mark.parametrize(
    "nodes",
    [
        "n[1-999999999]",
        "n[1-99999]r[1-99999]",
        ",".join(["n[1-60000]"] * 2),
        "n[5-1]",
        "n[1-2",
        "n]1[",
        "n[]",
        "n[a-b]",
        "n[1-2]]",
        "n[[1-2]]",
        "n[1,,2]",
        "n1,,n2",
        "n1,",
        "n1 n2",
        "n[1-99999999999999999999]",
        "n[" + "9" * 5000 + "]",
        "-oProxyCommand=touch",
        "n1;reboot",
        "$(reboot)",
        "n1\nn2",
        "@all",
        "n*",
        "n1&n2",
        "n1!n2",
        "../etc",
        "nöde",
        "n" * 300,
    ],
)
def test_lists_that_nobody_should_expand_are_refused(nodes):
    """Nothing is expanded, nothing gets near a command; the message is short and names the variable."""
    with pytest.raises(AllocationError, match="SLURM_JOB_NODELIST") as caught:
        detected(SLURM_JOB_NODELIST=nodes, SLURM_TASKS_PER_NODE="1")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("tasks", ["x", "0", "-4", "4(x", "4(x0)", "4(x999999999)", "1" * 20, "4,,4", "1.5", "٤"])
def test_numbers_of_tasks_that_are_none_are_refused(tasks):
    """Zero tasks would be no workers, and a calculation that never ends."""
    with pytest.raises(AllocationError, match="SLURM_TASKS_PER_NODE"):
        detected(SLURM_JOB_NODELIST="n1", SLURM_TASKS_PER_NODE=tasks)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("PBS_NODEFILE", "-oProxyCommand=touch\n"),
        ("PBS_NODEFILE", "n1;reboot\n"),
        ("PE_HOSTFILE", "n1\n"),
        ("PE_HOSTFILE", "n1 -3 all.q UNDEFINED\n"),
        ("PE_HOSTFILE", "n1 many all.q UNDEFINED\n"),
        ("LSB_DJOB_HOSTFILE", "\x00\x01\n"),
        ("LOADL_HOSTFILE", "  \n\n"),
        ("OAR_NODEFILE", "`reboot`\n"),
        ("COBALT_NODEFILE", "|n1\n"),
    ],
)
def test_files_that_list_no_hosts_are_refused(variable, text):
    """The error names the variable of the file."""
    with pytest.raises(AllocationError) as caught:
        detected(files={"/file": text}, **{variable: "/file"})
    assert caught.value.variable == variable


def test_files_with_more_hosts_than_any_cluster_are_refused():
    """100,000 hosts are believed, one more is not."""
    text = "".join(f"n{n}\n" for n in range(MOST_HOSTS))
    assert len(detected(files={"/file": text}, PBS_NODEFILE="/file")) == MOST_HOSTS
    with pytest.raises(AllocationError, match="more than"):
        detected(files={"/file": text + "m1\n"}, PBS_NODEFILE="/file")


def test_files_of_gigabytes_are_not_read(tmp_path):
    """No more than the bound is read; what is longer is refused."""
    path = tmp_path / "nodes"
    with path.open("wb") as file:
        file.truncate(20 << 30)
    assert len(read_text(str(path))) == MOST_TEXT + 1
    with pytest.raises(AllocationError, match="PBS_NODEFILE.*has more than"):
        detect({"PBS_NODEFILE": str(path)})


@pytest.mark.parametrize("kind", ["directory", "fifo", "device", "missing", "nul"])
def test_things_that_are_no_files_are_not_waited_for(kind, tmp_path):
    """A FIFO without a writer would never end, /dev/zero neither."""
    os.mkfifo(tmp_path / "fifo")
    paths = {"directory": tmp_path, "fifo": tmp_path / "fifo", "device": "/dev/zero", "nul": "a\0b"}
    with pytest.raises(AllocationError, match=r"PBS_NODEFILE.*cannot be read"):
        detect({"PBS_NODEFILE": str(paths.get(kind, tmp_path / "missing"))})


@settings(deadline=None)
@given(st.text(alphabet="n01239[]-,x()@ ", max_size=30))
def test_any_list_of_nodes_is_read_or_refused(nodes):
    """No other error than the named one, and no host that is an option or has a blank."""
    try:
        hosts = detected(SLURM_JOB_NODELIST=nodes, SLURM_JOB_ID="1", SLURM_NTASKS_PER_NODE="1")
    except AllocationError:
        return
    assert all(host == "localhost" or (host[0] not in "-." and " " not in host) for host in hosts)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["SLURM_JOB_ID", "SLURM_HET_SIZE", "SLURM_JOB_NODELIST_HET_GROUP_0",
    "SLURM_TASKS_PER_NODE_HET_GROUP_0", "PBS_JOBID", "PBS_NUM_PPN", "LSB_MCPU_HOSTS", "LSB_HOSTS", "NSLOTS", "SGE_ROOT",
    "LOADL_PROCESSOR_LIST", "FLUX_JOB_NNODES", "OAR_NODEFILE", "COBALT_NODEFILE"]), st.text(max_size=12)))  # fmt: skip
def test_any_environment_is_read_or_refused(environment):
    """Garbage in variables gives the named error, nothing else."""
    try:
        hosts = detect(environment, reader_of({}))
    except AllocationError as err:
        assert err.variable.isupper()
    else:
        assert all(count >= 1 for count in hosts.values())


def test_ranges_without_the_library_name_the_extra(monkeypatch):
    """Plain lists need nothing else."""
    real = builtins.__import__

    def missing(name, *rest):
        if name.startswith("ClusterShell"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    assert detected(SLURM_JOB_NODELIST="a1,n[2,10]", SLURM_TASKS_PER_NODE="1(x3)") == {"a1": 1, "n2": 1, "n10": 1}
    with pytest.raises(AllocationError, match=r"pip install 'ampstore\[parallel\]'"):
        detected(SLURM_JOB_NODELIST="n[1-2]", SLURM_TASKS_PER_NODE="1(x2)")


def test_no_error_and_no_log_shows_the_environment(monkeypatch):
    """Secrets stay where they are."""
    lines = []
    for name in list(os.environ):
        if name.startswith(("SLURM_", "PBS_", "LSB_", "FLUX_", "OAR_", "COBALT_", "_CONDOR", "LOADL_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MY_TOKEN", "s3cret")
    monkeypatch.setenv("LSB_MCPU_HOSTS", "a b c")
    with pytest.raises(AllocationError) as caught:
        assign_cores(None, lines.append)
    monkeypatch.setenv("LSB_MCPU_HOSTS", "a 2 b 3")
    assert assign_cores(None, lines.append) == {"a": 2, "b": 3}
    shown = "".join([str(caught.value), repr(caught.value), *lines])
    assert "LSB_MCPU_HOSTS" in shown
    assert "a: 2, b: 3" in shown
    assert "s3cret" not in shown
    assert "MY_TOKEN" not in shown


# -- what people give ------------------------------------------------------------------------------


@pytest.mark.parametrize("cores", [1, True, 1.0, {"n1": 4, "n2": 4}, {}])
def test_one_and_mappings_come_back_unchanged(cores):
    """As Amp has it: 1 is serial, a mapping is the user's own affair."""
    assert assign_cores(cores) is cores


@pytest.mark.parametrize(("cores", "count"), [(2, 2), ("4", 4), (" 8 ", 8), (2.7, 2), ("1", 1)])
def test_numbers_are_cores_of_this_host(cores, count):
    """Also as text, as from a command line."""
    assert assign_cores(cores) == {"localhost": count}


@pytest.mark.parametrize(
    "cores", [0, -1, "0", "x", "", 0.5, float("nan"), float("inf"), [4], ("n1",), b"\xff", object()]
)
def test_what_is_no_number_of_cores_is_refused(cores):
    """Amp took 0 and then waited for ever."""
    with pytest.raises(CoresError, match="is no number of cores"):
        assign_cores(cores)


def test_numpy_integers_are_numbers():
    """Programs compute them."""
    import numpy

    assert assign_cores(numpy.int64(3)) == {"localhost": 3}
    assert type(assign_cores(numpy.int64(3))["localhost"]) is int


def test_what_is_given_wins_over_the_environment(monkeypatch):
    """Even if the environment makes no sense."""
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n[1-")
    assert assign_cores(2) == {"localhost": 2}
    with pytest.raises(AllocationError):
        assign_cores(None)


def test_errors_are_those_that_amp_programs_expect():
    """NotImplementedError for a batch system, ValueError for a number."""
    with pytest.raises(NotImplementedError):
        detected(SLURM_JOB_NODELIST="n[1-")
    with pytest.raises(ValueError, match="cores='x'"):
        assign_cores("x")


# -- this machine ----------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is Linux's")
def test_affinity_of_this_process_counts():
    """A process that is bound to one core uses one."""
    program = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    program += "from ampstore.cores import usable_cores; print(usable_cores())"
    shown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert int(shown) == 1
    assert 1 <= usable_cores() <= os.cpu_count()


def test_without_proc_the_operating_system_is_asked():
    """Other systems than Linux have no /proc."""
    assert 1 <= usable_cores(reader_of({})) <= os.cpu_count()


def test_torn_files_of_the_kernel_are_no_quota():
    """Garbage there never stops a program."""
    garbage = {
        "/proc/self/status": "Cpus_allowed_list:\t0-1\n",
        "/proc/self/cgroup": "x\n::\n0::/../..\n",
        "/proc/self/mountinfo": "- - -\n1 2 3\n9 1 0:27 / /cg ro - cgroup2 cgroup rw\n",
        "/cg/cpu.max": "x y z",
    }
    assert usable_cores(reader_of(garbage)) == 2


# -- the command -----------------------------------------------------------------------------------


def command(*arguments, **environment):
    clean = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "ampstore", *arguments],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_shows_hosts_and_cores():
    """For people a table, for scripts JSON."""
    job = {"SLURM_JOB_NODELIST": "n[1-3]", "SLURM_TASKS_PER_NODE": "32(x2),16"}
    shown = command("cores", **job).stdout
    assert "SLURM: 80 cores on 3 hosts" in shown
    assert json.loads(command("cores", "--json", **job).stdout) == {
        "system": "SLURM",
        "cores": {"n1": 32, "n2": 32, "n3": 16},
    }
    assert json.loads(command("cores", "--json").stdout)["cores"] == {"localhost": usable_cores()}


def test_the_command_names_the_variable_that_is_at_fault():
    """Exit code 1, one sentence, no traceback."""
    done = command("cores", SLURM_JOB_NODELIST="n[1-", MY_TOKEN="s3cret")
    assert done.returncode == 1
    assert "SLURM_JOB_NODELIST" in done.stderr
    assert "Traceback" not in done.stderr
    assert "s3cret" not in done.stderr
