# Every target can be run again at any time: what is already there is not done twice.
# Variables: VENV (default: the active environment, else .venv), PYTHON, PORT, LAB_ARGS, NB, WORKERS, RAGKIT_HOME.

SHELL := /bin/bash
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# An active virtual environment or conda environment (other than base) is used; else .venv is made.
CONDA := $(if $(filter-out base,$(CONDA_DEFAULT_ENV)),$(CONDA_PREFIX))
VENV ?= $(or $(VIRTUAL_ENV),$(CONDA),.venv)
BIN := $(VENV)/bin
PYTHON ?=
PORT ?= 8888
NB ?= notebooks/*.ipynb
WORKERS ?= 2
STAMP := $(VENV)/.ragkit-installed
OFFLINE := tests/offline.sh
# Bytecode is made where a module is first imported: most of what is installed never is.
PIP := $(BIN)/python -m pip install -qq --no-compile --disable-pip-version-check

export RAGAS_DO_NOT_TRACK := true

.PHONY: help setup env data lab test lint unit notebooks browser refresh bench lock clean

help: ## List the targets (at once)
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: env data ## Environment, documents and models (first time 5-10 minutes and 3 GB; then 2 s)

# The stamp holds what was installed from where; make's own time stamps would lie after a clone or a move.
env:
	@wanted="$(CURDIR) $$(cat requirements.lock pyproject.toml | cksum)"
	if [ -x $(BIN)/python ] && [ "$$(cat $(STAMP) 2>/dev/null)" = "$$wanted" ]; then exit 0; fi
	if [ ! -x $(BIN)/python ]; then
	  python=""
	  for candidate in $(PYTHON) python3 python3.13 python3.12 python3.11; do
	    if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$candidate; break; fi
	  done
	  [ -n "$$python" ] || { echo "No Python 3.11 or newer was found: install one, or say make PYTHON=/path/to/python"; exit 1; }
	  echo "== making $(VENV) with $$($$python --version)"; $$python -m venv $(VENV)
	fi
	echo "== installing into $(VENV): torch first, so that nothing else chooses a larger build of it"
	$(PIP) "$$(grep '^torch==' requirements.lock)"
	echo "== installing the other $$(grep -c == requirements.lock) packages of requirements.lock (some minutes)"
	$(PIP) --no-deps -r requirements.lock
	$(PIP) --no-deps -e .
	# Another system or Python may need a package more than the lock holds: pip finds it, within the lock's versions.
	$(BIN)/python -m pip check || $(PIP) -c requirements.lock -e ".[all]"
	echo "$$wanted" > $(STAMP)

data: env
	@$(BIN)/ragkit fetch core
	$(BIN)/ragkit fetch catalogues
	$(BIN)/ragkit fetch tiny --vectors

lab: setup ## JupyterLab on 127.0.0.1, open on notebooks/00_start_here.ipynb (5 s; LAB_ARGS=--no-browser without a browser)
	@root=""; if [ "$$(id -u)" = 0 ]; then root=--allow-root; fi
	exec $(BIN)/python -m jupyterlab --ServerApp.ip=127.0.0.1 --ServerApp.port=$(PORT) $$root \
	  --ServerApp.root_dir=$(CURDIR) --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb \
	  --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate --LabApp.news_url=None $(LAB_ARGS)

test: setup lint unit notebooks browser ## Every check below, after the set-up (about 25 minutes the first time, then about 15)

lint: env ## ruff and mypy --strict (20 s)
	@echo "== lint: ruff check, ruff format --check, mypy --strict"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: setup ## Unit, property, oracle and contract tests, network blocked (about 5 minutes)
	@echo "== unit tests"
	$(OFFLINE) $(BIN)/python -m pytest tests -m "not browser" -q -n $(WORKERS) --dist loadfile --durations=10

notebooks: setup ## Every notebook run and compared with its committed outputs, network blocked (NB=notebooks/03*.ipynb for some)
	@echo "== the vectors that several notebooks need, once for all of them"
	$(BIN)/python tests/warm_up.py
	echo "== notebooks under nbval"
	$(OFFLINE) $(BIN)/python -m pytest tests/test_offline.py $(NB) -q -n $(WORKERS) --dist loadfile

browser: setup ## JupyterLab and the widgets in a real chromium, network blocked (about 2 minutes; skipped where there is no chromium)
	@echo "== browser tests"
	$(OFFLINE) $(BIN)/python -m pytest tests -m browser -q

refresh: setup ## Run the notebooks again and save their outputs (up to 2 minutes each; NB=notebooks/03*.ipynb for some)
	@$(BIN)/python tests/refresh_notebooks.py $(NB)

bench: setup ## Measure speed and quality against the targets; writes .ragkit/bench.json (minutes)
	@$(BIN)/python tests/run_bench.py

lock: ## Write requirements.lock anew from what is installed (1 s)
	@$(BIN)/python tests/make_lock.py

clean: ## Remove what tests and builds left; keeps .venv, documents and vectors (1 s)
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build
	find . -name .venv -prune -o -name .ragkit -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -print0 | xargs -0 rm -rf
