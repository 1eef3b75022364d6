# `make demo` and `make test` are complete in themselves on a fresh clone: each makes
# .venv and installs the tested versions into it. Nothing is written outside the clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# One more than there are cores, since tests wait for browsers and for processes of their own.
WORKERS := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
# These find langheads compiled.
test test-all: export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-all bench docs dist mutate lint clean

demo: $(VENV)/.installed
	$(BIN)/langheads demo --out demo-run

# Files in the order of their names: the longest have few tests, and must not come last.
test: $(VENV)/.installed
	$(MAKE) -j2 lint tests/__pycache__
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-all: $(VENV)/.installed
	$(MAKE) -j2 lint tests/__pycache__
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "slow or not slow"

# In a fresh clone, beside the linters: each worker would compile all tests for itself.
tests/__pycache__: | $(VENV)/.installed
	-$(BIN)/python -m pytest --collect-only -q > /dev/null

# Ratios and peaks of memory beside plain loops, in bench.md: some 20 minutes and 5 GB. Best alone.
bench: $(VENV)/.installed
	$(BIN)/python tests/bench/table.py --out bench.md

# The site, in site/: opens from disk, too.
docs: $(VENV)/.installed
	$(BIN)/mkdocs build --strict --config-file docs/mkdocs.yml

# Wheel and sdist.
dist: $(VENV)/.installed
	rm -rf dist
	$(BIN)/python -m hatchling build

# Mutants of the modules with formulas and safeguards; survivors are in mutation.txt. An hour or two
# for all: make mutate MUTATE="stats.py --sample 20" for some.
mutate: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --no-cache-dir --disable-pip-version-check -c constraints.txt -e ".[mutate]"
	$(BIN)/python -m tests.mutation.run $(MUTATE) | tee mutation.txt

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# pip, not uv: pip takes a CPU build of torch that the machine offers.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-cache-dir --disable-pip-version-check -c constraints.txt -e ".[dev,docs]"
	touch $@

clean:
	rm -rf $(VENV) demo-run site dist .pytest_tmp .mypy_cache .ruff_cache .pytest_cache
