# make run    install what is needed and start the demonstration
# make test   install what is needed and run every gate
# Everything is installed in .venv; measurements are kept in ~/.cache/sparseflow, or where SPARSEFLOW_CACHE says.

SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 2
OP ?=
ONLY ?=
# A pull that only changes Python needs no install: the package is editable. These files need one.
NATIVE := CMakeLists.txt $(shell find csrc)
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet -c constraints.txt
# What torch.compile makes is kept with the rest, so that a second run finds it even after /tmp was cleared.
export TORCHINDUCTOR_CACHE_DIR ?= $(abspath $(VENV))/cache/inductor
# norse comes as source, and without setuptools-scm calls itself version 0.0.0.
BUILD_TOOLS := scikit-build-core nanobind cmake ninja setuptools setuptools-scm

.PHONY: help run test check bench docs tables format clean env env-dev
.DEFAULT_GOAL := help

help:
	@sed -n '1,3s/^# //p' Makefile
	@echo "make test ONLY=...   some gates, as ONLY='mypy-strict pairing'"
	@echo "make bench OP=name   tests first, then the figures of one benchmark, as OP=spike-cpu"
	@echo "make docs            build the documentation into site/"
	@echo "make tables          renew the tables in README.md from benchmarks/results"
	@echo "make format          sort imports and format"
	@echo "make clean           remove what was built, keep .venv"

env: $(VENV)/.core
env-dev: $(VENV)/.dev

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v >= (3, 11) else "Python 3.11 or newer is needed, $(PYTHON) is %d.%d; say make PYTHON=python3.12" % v)'
	@echo "==> virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml constraints.txt $(NATIVE) | $(BIN)/python
	@echo "==> build tools"
	@$(PIP) $(BUILD_TOOLS)
	@echo "==> sparseflow: requirements and native kernels"
	@$(PIP) --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	@echo "==> development tools and the spiking libraries"
	@$(PIP) --no-build-isolation -e '.[dev]'
	@touch $@

run: env
	$(BIN)/sparseflow demo

test check: env-dev
	$(BIN)/python -m tools.gates --jobs $(JOBS) $(if $(ONLY),--only $(ONLY))

bench: env-dev
	$(BIN)/python -m benchmarks.run $(OP)

docs: env-dev
	$(BIN)/mkdocs build --strict

tables: env-dev
	$(BIN)/python -m tools.render_tables

format: env-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build dist site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find src tests tools benchmarks examples -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
