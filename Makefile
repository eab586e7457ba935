# make demo    set up and show a real Amp database migrated and read back
# make test    set up and run the tests
# make soak    the runs that CI leaves out; AMPSTORE_SOAK_SECONDS is the length of the mixed load, 1800 if not set
# make again   run those tests once more that failed
# make faults  the long fault suite: hours; renews the table in docs/reliability.md
# make releases  the wheel on every Python that is here, and on the oldest dependencies
# make docs    the site, below docs/_build
# make amp     make the environments with real Amp that tests/test_real_amp.py runs in

PYTHON ?= python3
VENV ?= .venv
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test again amp lint bench soak faults releases docs clean

$(VENV)/.package: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.package
	$(PIP) install --editable '.[test]'
	@touch $@

$(VENV)/.lint: $(VENV)/.test
	$(PIP) install --editable '.[test,lint]'
	@touch $@

$(VENV)/.dev: $(VENV)/.test
	$(PIP) install --editable '.[dev]'
	@touch $@

demo: $(VENV)/.package
	@rm -rf demo && mkdir demo
	@$(VENV)/bin/python examples/demo.py demo

test: $(VENV)/.test
	$(VENV)/bin/python -m pytest -n 2 --dist worksteal -m 'not soak'

again: $(VENV)/.test
	$(VENV)/bin/python -m pytest --last-failed --last-failed-no-failures none

amp: $(VENV)/.package
	$(VENV)/bin/python tests/amp/environment.py

soak: $(VENV)/.test
	$(VENV)/bin/python -m pytest -m soak -s

faults: $(VENV)/.test
	@rm -rf .faults
	$(VENV)/bin/python -m pytest tests/faults --long -rA; status=$$?; $(VENV)/bin/python tests/faults/table.py; exit $$status

lint: $(VENV)/.lint
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

releases: $(VENV)/.package
	$(VENV)/bin/python tests/releases.py

docs: $(VENV)/.test
	$(VENV)/bin/python -m sphinx -W --keep-going -q docs docs/_build

bench: $(VENV)/.dev
	$(VENV)/bin/python -m benchmarks

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
