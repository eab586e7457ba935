"""Pictures of searches, the live line, and the example."""

import json
import os
import pty
import re
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import ROOT

from ampstore import Store
from ampstore.anneal import Checkpoint, Linear, Shift, anneal, independent_restarts, ladder, replica_exchange
from ampstore.cli import main
from ampstore.errors import CheckpointError

PNG = b"\x89PNG\r\n\x1a\n"


def bowl(x):
    return float((x * x).sum())


def run(checkpoint=None, **more):
    return anneal(
        np.ones(3), bowl, Shift(0.2), Linear(2, 0.1, 500), rng=np.random.default_rng(1), checkpoint=checkpoint, **more
    )


def exchange(checkpoint=None):
    rng = np.random.default_rng(1)
    return replica_exchange(
        np.ones(3), bowl, Shift(0.2), ladder(2, 0.1, 4), rng=rng, rounds=20, every=10, checkpoint=checkpoint
    )


@pytest.fixture
def path(tmp_path):
    """A store with three searches."""
    with Store(tmp_path / "a.db") as store:
        run(Checkpoint(store, "fit <b>"))
        exchange(Checkpoint(store, "ladder", problem="a bowl"))
        independent_restarts(
            np.ones(3), bowl, Shift(0.2), Linear(2, 0.1, 100), rng=np.random.default_rng(1), count=3,
            checkpoint=Checkpoint(store, "many"),
        )  # fmt: skip
        store["something else"] = 1
    return tmp_path / "a.db"


@pytest.fixture
def command():
    """Function that runs the command line."""
    return lambda *arguments: CliRunner().invoke(main, list(map(str, arguments)))


# -- plot --------------------------------------------------------------------------------------


def test_a_result_draws_itself_without_a_display(monkeypatch, tmp_path):
    """Loss and best, temperature, acceptance; the numbers are those of the trace, and pyplot is not asked."""
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    result = run()
    axes = result.plot()
    assert len(axes) == 3
    lines = {line.get_label(): line for one in axes for line in one.get_lines()}
    assert lines["loss"].get_ydata().tolist() == result.trace.loss.tolist()
    assert lines["best"].get_ydata().tolist() == result.trace.best.tolist()
    assert lines["temperature"].get_ydata().tolist() == result.trace.temperature.tolist()
    assert lines["acceptance"].get_ydata().tolist() == (100 * result.trace.acceptance[1:]).tolist()
    axes[0].figure.savefig(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)


def test_an_exchange_draws_every_rung_and_the_rates():
    """One line for each replica, one bar for each pair."""
    result = exchange()
    axes = result.plot()
    assert len(axes[0].get_lines()) == 4
    assert [bar.get_height() for bar in axes[2].patches] == pytest.approx([100 * rate for rate in result.swap_rates])


@pytest.mark.parametrize("make", [run, exchange])
def test_axes_that_are_given_are_drawn_on_and_come_back(make):
    """For figures of one's own; three are needed."""
    from matplotlib.figure import Figure

    axes = list(Figure().subplots(1, 3))
    assert make().plot(axes) is axes
    assert all(one.has_data() for one in axes)
    with pytest.raises(ValueError, match="3 Axes, not 1"):
        make().plot(axes[:1])


# -- anneal-report -------------------------------------------------------------------------------


def test_the_command_lists_the_searches_of_a_store(command, path):
    """Not the other entries; the store is only read."""
    path.chmod(0o400)
    done = command("anneal-report", path)
    assert done.exit_code == 0, done.output
    assert re.search(r"fit <b> +anneal", done.output)
    assert re.search(r"ladder +replica exchange +a bowl", done.output)
    assert re.search(r"many +restarts", done.output)
    assert "something else" not in done.output


def test_the_command_writes_a_png(command, path, tmp_path):
    """Of one search or of all."""
    for more in ((), ("--name", "ladder")):
        assert command("anneal-report", path, "--output", tmp_path / "a.png", *more).exit_code == 0
        assert (tmp_path / "a.png").read_bytes().startswith(PNG)


def test_the_command_writes_an_html_file_that_needs_no_other(command, path, tmp_path):
    """Pictures inside, names as text, nothing from the net."""
    assert command("anneal-report", path, "--output", tmp_path / "a.html").exit_code == 0
    page = (tmp_path / "a.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "fit &lt;b&gt;" in page
    assert "<b>" not in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)


def test_the_command_prints_json_for_scripts(command, path):
    """With the columns of the trace."""
    found = json.loads(command("anneal-report", path, "--json", "--name", "fit <b>").stdout)
    assert len(found) == 1
    assert found[0]["finished"] == "yes"
    assert found[0]["traces"][0]["step"][-1] == 500


def test_the_command_says_what_it_cannot_do(command, path, tmp_path):
    """No search, no store, no such ending, no matplotlib."""
    done = command("anneal-report", path, "--name", "nobody")
    assert (done.exit_code, "'nobody'" in done.output) == (1, True)
    assert command("anneal-report", tmp_path / "nothing.db").exit_code == 2
    done = command("anneal-report", path, "--output", tmp_path / "a.pdf")
    assert (done.exit_code, ".png or an .html" in done.output) == (2, True)
    Store(tmp_path / "empty.db").close()
    done = command("anneal-report", tmp_path / "empty.db")
    assert (done.exit_code, "no checkpoint" in done.output) == (1, True)


def test_without_matplotlib_the_command_says_what_to_install(command, path, tmp_path, monkeypatch):
    """The table is shown all the same."""
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    done = command("anneal-report", path, "--output", tmp_path / "a.png")
    assert done.exit_code == 1
    assert "ampstore[plot]" in done.output
    assert "ladder" in done.output


def test_a_report_of_something_that_is_no_checkpoint_is_refused():
    """By name."""
    from ampstore.anneal.plot import kept_searches

    with pytest.raises(CheckpointError, match="'odd'"):
        kept_searches({"annealing:odd": 5})


# -- the live line -------------------------------------------------------------------------------

LIVE = """
import numpy as np
from ampstore.anneal import *
def loss(x):
    return float((x * x).sum())
anneal(np.ones(3), loss, Shift(.2), Linear(2, .125, 20000), rng=np.random.default_rng(1), progress=True)
"""


def test_progress_is_silent_where_there_is_no_terminal():
    """In batch jobs."""
    done = subprocess.run([sys.executable, "-c", LIVE], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_progress_on_a_terminal_shows_temperature_loss_and_acceptance():
    """And how many of the steps are done."""
    master, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "150"}
    process = subprocess.Popen([sys.executable, "-c", LIVE], stderr=terminal, env=environment)
    os.close(terminal)
    shown = b""
    while True:
        try:
            chunk = os.read(master, 4096)
        except OSError:  # how Linux says that nobody has the terminal any more
            break
        if not chunk:
            break
        shown += chunk
    os.close(master)
    assert process.wait(60) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert "20000/20000" in text
    assert re.search(r"T 0\.125 +loss [\d.e-]+ +best [\d.e-]+ +accepted \d+%", text)


# -- the documentation and the example ---------------------------------------------------------------------------------


def test_the_example_of_the_documentation_runs(tmp_path):
    """As it stands there, twice: the second time it is finished."""
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "annealing.md").read_text(), re.DOTALL)[1]
    runs = [subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True) for _ in "ab"]
    assert runs[0].stdout == runs[1].stdout != b""
    assert (tmp_path / "rastrigin.png").read_bytes().startswith(PNG)


def test_the_example_fits_a_potential_is_killed_and_goes_on(tmp_path):
    """Bit for bit, and SciPy makes it no worse."""
    command = [sys.executable, ROOT / "examples" / "morse.py", tmp_path]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "the same to the last bit as a search that was never stopped: True" in shown
    step = int(re.search(r"the checkpoint has step (\d+) of 5000", shown)[1])
    assert 1250 <= step < 5000
    before, annealed, polished = (float(number) for number in re.findall(r"([\d.]+) meV per atom", shown))
    assert polished <= annealed < before / 5
    assert (tmp_path / "annealing.png").read_bytes().startswith(PNG)
