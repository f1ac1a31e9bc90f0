# Every target can be run again at any time: what is already there is not done twice.
# Variables: VENV (default: the active environment, else .venv), PYTHON, PORT, LAB_ARGS, NB, WORKERS, RAGKIT_HOME.

# For GNU make 3.81, which macOS has, and any newer one: each line of a recipe is a shell of its own. Paths may have
# spaces: quote them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# An active virtual environment or conda environment (other than base) is used; else .venv is made.
CONDA := $(if $(filter-out base,$(CONDA_DEFAULT_ENV)),$(CONDA_PREFIX))
VENV ?= $(or $(VIRTUAL_ENV),$(CONDA),.venv)
BIN := $(VENV)/bin
PYTHON ?=
PORT ?= 8888
NB ?= notebooks/*.ipynb
WORKERS ?= 2
RUN := "$(BIN)/python"
OFFLINE := tests/offline.sh $(RUN)
# A file is run by one worker; the files begin in the order of tests/conftest.py.
SHARED := -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder

export RAGAS_DO_NOT_TRACK := true
# Bytecode is kept even where the environment forbids it, as many containers do: without it every kernel compiles torch
# and all else that it imports anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup env data lab test lint vectors unit notebooks browser refresh hours bench growth faults results lock clean

help: ## List the targets (at once)
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: env data ## Environment, documents and models (first time 3-10 minutes and 3 GB; then 2 s)

env:
	@tests/make_env.sh "$(VENV)" "$(PYTHON)"

data: env
	@$(RUN) -m ragkit.cli fetch model
	@$(RUN) -m ragkit.cli fetch core
	@$(RUN) -m ragkit.cli fetch catalogues
	@$(RUN) -m ragkit.cli fetch tiny --vectors

lab: setup ## JupyterLab on 127.0.0.1, open on notebooks/00_start_here.ipynb (5 s; LAB_ARGS=--no-browser without a browser)
	@if [ "$$(id -u)" = 0 ]; then root=--allow-root; else root=; fi; \
	exec $(RUN) -m jupyterlab --ServerApp.ip=127.0.0.1 --ServerApp.port=$(PORT) $$root \
	  --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb \
	  --LabApp.app_settings_dir="$(CURDIR)/data/jupyterlab" \
	  --ServerApp.contents_manager_class=ragkit.notebook.contents.Contents $(LAB_ARGS)

test: setup lint vectors unit notebooks browser ## Every check below, after the set-up (about 21 minutes the first time, then about 14)

lint: env ## ruff and mypy --strict (20 s)
	@echo "== lint: ruff check, ruff format --check, mypy --strict"
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

vectors: setup ## The vectors that several tests and notebooks need, on all cores (5 minutes the first time, then 5 s)
	@echo "== vectors"
	@$(RUN) tests/warm_up.py

unit: setup ## Unit, property, oracle and contract tests, network blocked (about 6 minutes)
	@echo "== unit tests"
	@$(OFFLINE) -m pytest tests -m "not browser" $(SHARED) --durations=10

notebooks: vectors ## Every notebook run and compared with its committed outputs, network blocked (NB=notebooks/03*.ipynb for some)
	@echo "== notebooks under nbval"
	@$(OFFLINE) -m pytest tests/test_offline.py $(NB) $(SHARED)

browser: setup ## JupyterLab and the widgets in a real chromium, network blocked (2 minutes; skipped where there is no chromium)
	@echo "== browser tests"
	@$(OFFLINE) -m pytest tests -m browser -q -n $(WORKERS)

refresh: setup ## Run the notebooks again and save their outputs (up to 2 minutes each; NB=notebooks/03*.ipynb for some)
	@$(RUN) tests/refresh_notebooks.py $(NB)

hours: env ## How long each notebook and the course take to study, by a fixed rule (2 s)
	@$(RUN) tests/course_hours.py

bench: setup ## Measure speed and quality against the targets; writes results/*.json (BENCH="start drift" for some)
	@$(RUN) tests/run_bench.py $(BENCH)

growth: setup ## Engines from 10,000 to 1,000,000 chunks (half an hour to an hour, 10 GB of memory, 5 GB of disk for a while; resumed)
	@$(RUN) tests/run_bench.py growth
	@$(RUN) tests/render_growth.py

faults: setup ## Kill servers, fill a disk, cut networks, crowd the service; count what is lost (6 minutes; RAGKIT_FAULTS=disk_full for one)
	@$(RUN) tests/run_bench.py faults

results: ## Render results/*.json as RESULTS.md, and the tables of notebooks/growth.md (2 s)
	@$(RUN) tests/render_results.py
	@$(RUN) tests/render_growth.py

lock: ## Write requirements.lock and requirements-scale.lock anew from what is installed (1 s)
	@$(RUN) tests/make_lock.py

clean: ## Remove what tests and builds left; keeps .venv, documents and vectors (1 s)
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build
	@find . -name .venv -prune -o -name .ragkit -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -print0 | xargs -0 rm -rf
