"""Amp's Annealer: on a calculator with Amp's protocol, on plain functions, and on real Amp where there is one."""

import io
import os
import re
import signal
import threading

import numpy as np
import pytest

from ampstore import Annealer, Logger, Store
from ampstore.anneal import Linear, Nudge
from ampstore.errors import CalculatorError, CheckpointError, ScheduleError


class LossFunction:
    """Amp's loss function as far as an Annealer sees it: RMSE of a line, in a dict."""

    def __init__(self, model):
        self.model = model
        self.raise_ConvergenceOccurred = True
        self.log_losses = True
        self._step = 7
        self.cleaned = 0
        self.calls = []
        self.fail_at = None

    def get_loss(self, parametervector=None, lossprime=False):
        assert not lossprime
        assert not self.raise_ConvergenceOccurred
        assert not self.log_losses
        self._step += 1
        self.calls.append(np.array(parametervector))
        if len(self.calls) == self.fail_at:
            raise RuntimeError("a worker died")
        self.model.vector = parametervector
        x = np.linspace(-1, 1, 20)
        slope, offset = parametervector[:2]
        return {"loss": float(np.sqrt(np.mean((slope * x + offset - 3 * x - 0.5) ** 2))), "dloss_dparameters": None}

    def _cleanup(self):
        self.cleaned += 1


class Model:
    def __init__(self):
        self.vector = None
        self.lossfunction = LossFunction(self)

    def fit(self, trainingimages, descriptor, log, parallel, only_setup=False):
        assert only_setup
        assert descriptor.fingerprinted == set(trainingimages)
        self.vector = [1.0, 0.1, 0.0]


class Descriptor:
    def calculate_fingerprints(self, images, parallel=None, log=None, calculate_derivatives=False):
        self.fingerprinted, self.derivatives, self.parallel = set(images), calculate_derivatives, parallel


class Calculator:
    def __init__(self, log=None):
        self._log = Logger(log)
        self._parallel = {"cores": 1}
        self.descriptor, self.model = Descriptor(), Model()


@pytest.fixture
def images():
    """Two structures with energies."""
    from ase.build import bulk
    from ase.calculators.emt import EMT

    made = []
    for strain in (1.0, 1.02):
        atoms = bulk("Cu", a=3.6 * strain, cubic=True)
        atoms.calc = EMT()
        atoms.get_potential_energy()
        made.append(atoms)
    return made


SHORT = {"Tmax": 0.01, "Tmin": 0.0001, "steps": 600}


def generator(seed=1):
    return np.random.default_rng(seed)


# -- on a calculator ---------------------------------------------------------------------------


def test_the_constructor_anneals_and_the_model_gets_the_best_parameters(images):
    """As in Amp: nothing else has to be called."""
    calc = Calculator()
    annealer = Annealer(calc=calc, images=images, **SHORT, rng=generator())
    assert calc.model.vector.tolist() == annealer.state.tolist()
    losses = [
        np.sqrt(np.mean(((v[0] - 3) * np.linspace(-1, 1, 20) + v[1] - 0.5) ** 2)) for v in calc.model.lossfunction.calls
    ]
    assert annealer.loss == pytest.approx(min(losses))
    assert annealer.loss < losses[0]
    assert len(losses) == 601
    assert annealer.state[2] == 0.0
    assert annealer.result.steps == 600
    assert annealer.calc is calc
    assert annealer.start > 1.7e9


def test_positional_arguments_are_those_of_amp(images):
    """calc, images, Tmax, Tmin, steps, updates, train_forces."""
    calc = Calculator()
    annealer = Annealer(calc, images, 0.01, 0.0001, 50, 5, False)
    assert (annealer.Tmax, annealer.Tmin, annealer.steps, annealer.updates) == (0.01, 0.0001, 50, 5)
    assert calc.descriptor.derivatives is False
    assert len(annealer.result.trace) == 6
    assert (Annealer.Tmax, Annealer.Tmin, Annealer.steps, Annealer.updates) == (20.0, 2.5, 10000, 50.0)
    assert (Annealer.copy_strategy, Annealer.save_state_on_exit) == ("copy", False)


def test_flags_steps_and_workers_of_the_loss_function_are_put_in_order(images):
    """It can converge in the training that follows."""
    calc = Calculator()
    calc.model.lossfunction.log_losses = False
    Annealer(calc, images, **SHORT)
    function = calc.model.lossfunction
    assert (function.raise_ConvergenceOccurred, function.log_losses) == (True, False)
    assert (function._step, function.cleaned) == (0, 1)


def test_flags_and_parameters_are_put_back_when_the_loss_raises(images):
    """The legacy left them, and the next training never converged."""
    calc = Calculator()
    calc.model.lossfunction.fail_at = 30
    with pytest.raises(RuntimeError, match="a worker died"):
        Annealer(calc, images, **SHORT)
    function = calc.model.lossfunction
    assert (function.raise_ConvergenceOccurred, function.log_losses) == (True, True)
    assert (function._step, function.cleaned) == (0, 1)
    assert list(calc.model.vector) == [1.0, 0.1, 0.0]


def test_ctrl_c_ends_the_search_keeps_the_best_and_puts_the_handler_back(images):
    """The legacy kept SIGINT for good."""
    calc = Calculator()
    before = signal.getsignal(signal.SIGINT)

    class Interrupted(Annealer):
        def get_loss(self, state):
            if len(calc.model.lossfunction.calls) == 100:
                os.kill(os.getpid(), signal.SIGINT)
            return super().get_loss(state)

    annealer = Interrupted(calc, images, **SHORT, rng=generator())
    assert signal.getsignal(signal.SIGINT) == before
    assert annealer.user_exit
    assert (annealer.result.stopped, annealer.result.steps) == ("SIGINT", 100)
    assert calc.model.vector.tolist() == annealer.state.tolist()


def test_it_works_outside_the_main_thread(images):
    """The legacy raised ValueError there."""
    made = []
    thread = threading.Thread(target=lambda: made.append(Annealer(Calculator(), images, **SHORT)))
    thread.start()
    thread.join(60)
    assert made[0].result.steps == 600


def test_the_log_has_the_table_of_amp(images):
    """Header, a line at step 0, then `updates` lines; numbers as Amp writes them."""
    file = io.StringIO()
    Annealer(Calculator(file), images, Tmax=0.5, Tmin=0.1, steps=40, updates=4)
    lines = file.getvalue().splitlines()
    assert "Descriptor, Model" in file.getvalue()
    start = next(number for number, line in enumerate(lines) if re.search(r"Step +Temperature +Loss +Accept", line))
    rows = lines[start + 1 : start + 6]
    assert re.fullmatch(r" +0 +5\.00e-01 +\d\.\d{4}e[+-]\d\d", rows[0])
    share, clock = r" +\d+\.\d\d%", r" +\d+:\d\d:\d\d"
    for step, row in zip((10, 20, 30, 40), rows[1:], strict=True):
        assert re.fullmatch(rf" +{step} +\d\.\d\de-01 +\d\.\d{{4}}e[+-]\d\d{share}{share}{clock}{clock}", row), row
    assert "1.00e-01" in rows[-1]
    assert "best loss" in lines[start + 6]


def test_a_search_on_a_calculator_goes_on_from_a_store(images, tmp_path):
    """Bit for bit, in a new process's place: new objects."""
    whole = Annealer(Calculator(), images, **SHORT, rng=generator())
    with Store(tmp_path / "a.db") as store:

        class Stopped(Annealer):
            def get_loss(self, state):
                self.user_exit = len(self.calc.model.lossfunction.calls) >= 250
                return super().get_loss(state)

        first = Stopped(Calculator(), images, **SHORT, rng=generator(), checkpoint=store)
        assert first.result.stopped == "user_exit"
        second = Annealer(Calculator(), images, **SHORT, rng=generator(5), checkpoint=store, resume=True)
        assert len(second.calc.model.lossfunction.calls) < 400
    assert second.state.tobytes() == whole.state.tobytes()
    assert second.loss == whole.loss
    with pytest.raises(CheckpointError), Store(tmp_path / "a.db") as store:
        Annealer(Calculator(), images, Tmax=1, Tmin=0.1, steps=600, checkpoint=store, resume=True)


def test_numpys_seed_decides_as_before(images):
    """Programs that call numpy.random.seed get the same search again."""
    states = []
    for seed in (3, 3, 4):
        np.random.seed(seed)
        states.append(Annealer(Calculator(), images, **SHORT).state.tolist())
    assert states[0] == states[1] != states[2]


@pytest.mark.parametrize(
    "wrong", [{"Tmin": 0}, {"Tmin": -1.0}, {"Tmax": 1.0, "Tmin": 2.0}, {"steps": 0}, {"steps": 2.5}]
)
def test_bad_schedules_are_refused_before_anything_is_calculated(images, wrong):
    """Fingerprints may take hours."""
    calc = Calculator()
    with pytest.raises(ScheduleError):
        Annealer(calc, images, **{**SHORT, **wrong})
    assert not hasattr(calc.descriptor, "fingerprinted")


@pytest.mark.parametrize("missing", ["descriptor", "model"])
def test_a_calculator_without_the_protocol_is_refused_by_name(images, missing):
    """It says what is missing."""
    calc = Calculator()
    setattr(calc, missing, None)
    with pytest.raises(CalculatorError, match=f"no {missing}"):
        Annealer(calc, images)
    with pytest.raises(CalculatorError, match="give calc= and images=, or state= and loss="):
        Annealer()


# -- on plain functions --------------------------------------------------------------------------


def squares(x):
    return float(((np.asarray(x) - 3) ** 2).sum())


def test_it_anneals_any_state_with_any_loss_and_move():
    """Without a calculator."""
    annealer = Annealer(state=[1.0, 2.0], loss=squares, move=Nudge(0.5), Tmax=2, Tmin=0.01, steps=3000, rng=generator())
    assert annealer.loss < 0.01
    assert annealer.loss == squares(annealer.state)


def test_a_subclass_may_move_in_place_and_say_nothing_as_amp_programs_do():
    """By its own method; a rejected move leaves no trace."""

    class Stepping(Annealer):
        def move(self, state):
            state[np.random.randint(len(state))] += np.random.choice([-1, 1])

    for strategy in ("copy", "deepcopy", "slice"):
        Stepping.copy_strategy = strategy
        annealer = Stepping(state=np.array([9, -9, 0]), loss=squares, Tmax=3, Tmin=0.1, steps=2000, rng=generator())
        assert annealer.state.tolist() == [3, 3, 3]
        assert annealer.loss == 0


def test_auto_finds_a_schedule_and_set_schedule_takes_it():
    """Both were broken in Amp."""
    annealer = Annealer(state=np.array([9.0, -9.0]), loss=squares, move=Nudge(2.0), rng=generator(), run=False)
    assert annealer.result is None
    found = annealer.auto(minutes=0.001, steps=300)
    assert set(found) == {"tmax", "tmin", "steps", "updates"}
    assert found["tmax"] > found["tmin"] > 0
    annealer.set_schedule(found)
    assert (annealer.Tmax, annealer.Tmin, annealer.steps) == (found["tmax"], found["tmin"], found["steps"])
    annealer.set_schedule({"tmax": 50.0, "tmin": 0.01, "steps": 4000.0})
    state, loss = annealer.anneal()
    assert loss == squares(state) < 0.1
    annealer.set_schedule(Linear(5, 1, 10))
    annealer.anneal()
    assert annealer.result.steps == 10
    with pytest.raises(ScheduleError, match="'tmin'"):
        annealer.set_schedule({"tmax": 1, "steps": 3})


def test_auto_on_a_calculator_leaves_its_flags_in_order(images):
    """And searches nothing yet."""
    calc = Calculator()
    annealer = Annealer(calc, images, run=False, rng=generator())
    annealer.auto(0.001, steps=50)
    assert list(calc.model.vector) == [1.0, 0.1, 0.0]
    assert calc.model.lossfunction.raise_ConvergenceOccurred
    assert annealer.result is None


def test_save_state_writes_what_numpy_reads(tmp_path, monkeypatch):
    """With a name, without one, and on exit if asked."""
    monkeypatch.chdir(tmp_path)
    annealer = Annealer(state=np.array([1.0, 2.0]), loss=squares, Tmax=1, Tmin=0.1, steps=20, rng=generator())
    assert annealer.save_state("best") == "best"
    assert np.load("best").tolist() == annealer.state.tolist()
    named = annealer.save_state()
    assert f"{annealer.loss:.4e}" in named
    assert np.load(named).tolist() == annealer.state.tolist()

    class Saving(Annealer):
        save_state_on_exit = True

    before = len(list(tmp_path.iterdir()))
    Saving(state=np.array([5.0]), loss=squares, Tmax=1, Tmin=0.1, steps=20, rng=generator())
    assert len(list(tmp_path.iterdir())) == before + 1


def test_small_methods_do_what_amps_do():
    """round_figures (of 0 too), time_string, copy_state, set_user_exit."""
    annealer = Annealer(state=np.array([1.0]), loss=squares, run=False)
    assert Annealer.round_figures(123.456, 2) == 120.0
    assert annealer.round_figures(0.0012345, 3) == 0.00123
    assert annealer.round_figures(0, 3) == 0.0
    assert annealer.time_string(3661.4) == "   1:01:01"
    assert annealer.time_string(59.6) == "   0:01:00"
    for strategy in ("copy", "method", "slice", "deepcopy"):
        annealer.copy_strategy = strategy
        copied = annealer.copy_state(annealer.state)
        copied[0] = 9
        assert annealer.state[0] == 1.0
        assert annealer.copy_state([1, [2]]) == [1, [2]]
    annealer.copy_strategy = "nonsense"
    with pytest.raises(ScheduleError, match="copy, method, slice, deepcopy"):
        annealer.copy_state(annealer.state)
    annealer.set_user_exit(signal.SIGINT, None)
    assert annealer.user_exit
    state = np.array([2.0])
    annealer.move(state)
    assert 0 < abs(state[0] - 2.0) <= 0.001
