# `make demo` sets up everything and runs the main job; `make test` sets up everything and tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
STEP := @.ci/step
PYTEST := $(BIN)/python -m pytest -n auto
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
export FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION := 1

.PHONY: demo run test setup install check site unit e2e nightly wheel newest first-hour clean
.NOTPARALLEL:

demo: setup
	$(BIN)/python -m scripts.run

# make run ARGS="engine=inprocess generator=none"
run: setup
	$(BIN)/python -m scripts.run $(ARGS)

test: check site unit e2e

check: setup
	$(STEP) format $(BIN)/ruff format --check .
	$(STEP) lint $(BIN)/ruff check .
	$(STEP) types $(BIN)/mypy

# The documentation as a site, in build/site: strict, without network.
site: setup
	$(STEP) site $(BIN)/python -m scripts.pages.site

unit: setup
	$(STEP) unit $(PYTEST) --ignore tests/e2e

# A file at a time: what its tests look at together is played once, not once a worker.
e2e: setup
	$(STEP) "end to end" $(PYTEST) --dist loadfile --no-loadscope-reorder tests/e2e

nightly: setup
	$(STEP) nightly $(PYTEST) -m nightly tests

wheel: setup
	$(STEP) wheel $(BIN)/python -m scripts.trials.installed wheel

newest: setup
	$(STEP) "newest python" $(BIN)/python -m scripts.trials.installed newest

first-hour: setup
	$(STEP) "first hour" $(BIN)/python -m scripts.trials.first_hour

setup: $(STAMP)

# A torch that is already there (a CPU build, say) is kept: constraints.txt names its release only.
$(STAMP): pyproject.toml setup.py constraints.txt
	$(STEP) install $(MAKE) --no-print-directory install

install:
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) build outputs multirun
