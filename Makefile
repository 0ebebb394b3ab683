# make run    set up .venv, then train the default experiment (once: a finished run is shown, not repeated)
# make test   set up .venv, then lint and run every test
# The set-up is done again only when setup.cfg, pyproject.toml, constraints.txt or this file changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONFIG ?= configs/signal_game/sparsemax.yaml

.PHONY: run test lint docs benchmark hooks clean

run: $(VENV)/.installed
	$(BIN)/latent run $(CONFIG)

test: lint
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadgroup

lint: $(VENV)/.installed
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: $(VENV)/.installed-docs
	$(BIN)/sphinx-build -W -q docs docs/_build

benchmark: $(VENV)/.installed
	$(BIN)/python benchmarks/step_time.py
	$(BIN)/python benchmarks/step_memory.py
	$(BIN)/python benchmarks/estimator_time.py
	$(BIN)/python benchmarks/large_vocabulary.py
	$(BIN)/python benchmarks/published_sender.py
	$(BIN)/python benchmarks/model_steps.py
	$(BIN)/python benchmarks/sweep_throughput.py

hooks: $(VENV)/.installed
	$(BIN)/pre-commit install

$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed; try make PYTHON=python3.12")'
	@echo "setting up $(VENV): a minute or two, once"
	@$(PYTHON) -m venv $(VENV) || { echo 'venv failed; on Debian: apt install python3-venv' >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) docs/_build docs/generated .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
