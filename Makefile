# Tonsurance. `make help` lists what can be done; `make run` and `make test` are all a newcomer needs.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes
.DEFAULT_GOAL := help
.PHONY: help run test check fmt bench fuzz soak faults clean contracts
WORKERS ?= 2
FUZZ_INPUTS ?= 1000000
BLOCKS ?= 9000
TRANSACTIONS ?= 20000
KILLS ?= 20
MINUTES ?= 10

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "The venv module is missing; on Debian: apt-get install python3-venv"; exit 2; }

$(VENV)/.run: requirements/run.txt requirements/localnet.txt pyproject.toml | $(VENV)/bin/python
	@echo "Installing the pinned packages (once, under a minute) ..."
	@$(PIP) -r requirements/run.txt -r requirements/localnet.txt || $(PIP) -r requirements/run.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.run
	@echo "Installing what the tests need ..."
	@$(PIP) -r requirements/dev.txt
	@touch $@

run: $(VENV)/.run  ## start everything on http://127.0.0.1:8080 (TONSURANCE_PORT, TONSURANCE_HOME)
	@exec $(BIN)/tonsurance run

test: $(VENV)/.dev  ## all tests, in WORKERS processes
	@$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

check: $(VENV)/.dev  ## format, lint, types, imports, sizes, numbers in code, contracts, then all tests: what CI runs
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache --no-logo
	@$(BIN)/python tools/check_sizes.py src tools
	@$(BIN)/python tools/check_literals.py src
	@$(BIN)/python tools/build_contracts.py --check
	@$(MAKE) --no-print-directory test

fmt: $(VENV)/.dev  ## format the code and mend what the linter can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

contracts: $(VENV)/.dev  ## compile the contracts anew
	@$(BIN)/python tools/build_contracts.py

bench: $(VENV)/.dev  ## figures beside their limits, written to bench/results.json
	@$(BIN)/python -m bench

fuzz: $(VENV)/.dev  ## a million hostile cells through the decoder (FUZZ_INPUTS, FUZZ_SEED)
	@PYTHONPATH=tests $(BIN)/python -m chain.fuzzing --count $(FUZZ_INPUTS) $(if $(FUZZ_SEED),--seed $(FUZZ_SEED))

soak: $(VENV)/.dev  ## hours of chain in minutes, with kills, compared after each (BLOCKS, TRANSACTIONS, KILLS)
	@$(BIN)/python tools/soak.py --blocks $(BLOCKS) --transactions $(TRANSACTIONS) --kills $(KILLS)

faults: $(VENV)/.dev  ## follow a chain through seeded faults of its API, and compare (MINUTES, FAULT_SEED)
	@PYTHONPATH=tests $(BIN)/python -m proof.fault_run --minutes $(MINUTES) $(if $(FAULT_SEED),--seed $(FAULT_SEED))

clean:  ## remove the virtual environment and all local data
	@[ ! -x $(BIN)/tonsurance ] || $(BIN)/python tools/remove_home.py .tonsurance
	@rm -rf $(VENV) build .mypy_cache .ruff_cache .hypothesis .import_linter_cache
