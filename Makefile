# Two commands matter: `make demo` and `make test`. Both set up all they need.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.edgeward-installed
TFLITE_VENV := .venv-tflite-runtime
TFLITE_STAMP := $(TFLITE_VENV)/.edgeward-installed

.PHONY: demo test test-all check format proto bench setup system lock clean

setup: $(STAMP)

# One lock of exact versions. torch comes from wherever pip is told to find a CPU build; see docs/operations.md.
$(STAMP): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

# tflite-runtime needs numpy below 2, so the agent on it has an environment of its own.
$(TFLITE_STAMP): requirements-tflite-runtime.lock
	test -x $(TFLITE_VENV)/bin/python || $(PYTHON) -m venv $(TFLITE_VENV)
	$(TFLITE_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements-tflite-runtime.lock
	touch $@

# What the tests need beside Python. Installs it as root on Debian; elsewhere says what is missing.
system:
	@scripts/install_system_packages.sh

demo: setup
	$(BIN)/edgeward demo $(if $(KEEP),--keep)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check system $(TFLITE_STAMP)
	$(BIN)/python -m pytest -m "not slow"

test-all: check system $(TFLITE_STAMP)
	$(BIN)/python -m pytest

bench: setup
	$(BIN)/python -m benchmarks

proto: setup
	$(BIN)/python scripts/generate_stubs.py

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Resolve the extras again and write down the exact versions.
lock: setup
	scripts/write_lock.sh

clean:
	rm -rf $(VENV) $(TFLITE_VENV) .demo .demo-rollout .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
