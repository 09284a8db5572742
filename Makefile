# Everything a developer or a pipeline runs. Needs Python 3.11 or newer and make; each target makes what it needs itself,
# in .venv. Pass more with ARGS: make test ARGS="-x tests/core", make lock ARGS=--upgrade.

PYTHON  ?= python3
WORKERS ?= 2
ARGS    ?=
SECONDS ?= 120
SEED    ?= 1

VENV := .venv
BIN  := $(VENV)/bin
PY   := $(BIN)/python
UV   := $(BIN)/uv
# Newer than the lock when .venv holds exactly what the lock says.
READY := $(VENV)/.ready
# The same for .venv-niquests, which the recipe for niquests is run in: it cannot live beside requests.
NIQUESTS := .venv-niquests/.ready

CODE    := $(wildcard src tests tools benchmarks examples simulation)
COMPILE := UV_CUSTOM_COMPILE_COMMAND="make lock" $(UV) pip compile --quiet --universal --generate-hashes \
           --no-emit-index-url --python-version 3.11

.DEFAULT_GOAL := help
.PHONY: help venv demo test lint format format-check types arrows api api-snapshot audit standards bench bench-peers docs simulate soak lock node clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

venv: $(READY) ## Make .venv, or bring it up to the lock
	@:

demo: $(READY) ## The whole flow on this machine: an authorization server, an API and a web host
	@$(BIN)/tokenvalet demo $(ARGS)

test: $(READY) $(NIQUESTS) ## All tests
	@$(PY) -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

lint: $(READY) ## Look for faults with ruff
	@$(PY) -m ruff check $(ARGS) .

format: $(READY) ## Format the code, and put right what ruff can put right
	@$(PY) -m ruff check --fix-only --quiet .
	@$(PY) -m ruff format $(ARGS) .

format-check: $(READY) ## Is the code formatted?
	@$(PY) -m ruff format --check $(ARGS) .

types: $(READY) ## Check the types with mypy
	@$(PY) -m mypy $(ARGS) $(CODE)

arrows: $(READY) ## Do imports point inward?
	@$(PY) -m pytest -q $(ARGS) tests/project/test_import_direction.py

api: $(READY) ## Is the public API the one of the snapshot?
	@$(PY) tools/api_snapshot.py --check

api-snapshot: $(READY) ## Write the snapshot of the public API anew
	@$(PY) tools/api_snapshot.py

audit: $(READY) ## Look at every dependency: hashes, reasons, licences, advisories
	@$(PY) tools/audit.py $(ARGS)

standards: $(READY) ## Which lines of the standards checklist have a test, and which have none
	@$(PY) tools/standards.py $(ARGS)

docs: $(READY) ## The documentation as a site, in build/site
	@$(PY) -m sphinx --fail-on-warning --keep-going --quiet -b html docs build/site

simulate: $(READY) ## Thirty days of ten thousand processes, under a virtual clock
	@$(PY) -m simulation.run $(ARGS)

soak: $(READY) ## An hour of trouble in two minutes, and what it leaves behind (SECONDS=120 SEED=1)
	@$(PY) benchmarks/soak.py --seconds $(SECONDS) --seed $(SEED)

bench: $(READY) ## The benchmarks
	@$(PY) benchmarks/run.py $(ARGS)

bench-peers: $(READY) ## The benchmark beside other libraries, in .venv-peers; writes docs/peers.md
	@test -x .venv-peers/bin/python || $(UV) venv --quiet --python $(PY) .venv-peers
	@$(UV) pip sync --quiet --python .venv-peers/bin/python --require-hashes requirements/peers.txt
	@cd benchmarks && PYTHONPATH=../src ../.venv-peers/bin/python -m peers

lock: $(READY) ## Write the locks anew (ARGS=--upgrade for newer versions)
	@$(COMPILE) $(ARGS) --all-extras --group dev pyproject.toml -o requirements/dev.txt
	@$(COMPILE) $(ARGS) requirements/bootstrap.in -o requirements/bootstrap.txt
	@$(COMPILE) $(ARGS) requirements/node.in -o requirements/node.txt
	@$(COMPILE) $(ARGS) -c requirements/dev.txt pyproject.toml requirements/niquests.in -o requirements/niquests.txt
	@$(COMPILE) $(ARGS) --extra testing --extra redis pyproject.toml requirements/peers.in -o requirements/peers.txt

node: $(READY) ## Put Node.js into .venv, on a machine without it
	@$(UV) pip install --quiet --python $(PY) --require-hashes -r requirements/node.txt

clean: ## Remove .venv and everything else that is made here
	@rm -rf $(VENV) .venv-niquests build dist tests/interop/node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find src tests tools benchmarks examples simulation -type d -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "tokenvalet needs Python 3.11 or newer, and '$(PYTHON)' is not that:" \
	       "name another, as in: make PYTHON=python3.13 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "'$(PYTHON) -m venv' does not work here: on Debian and Ubuntu, install the package python3-venv." >&2; \
	  exit 1; }

# pip brings uv, at the version and with the hashes of bootstrap.txt; uv does the rest.
$(READY): requirements/dev.txt requirements/bootstrap.txt pyproject.toml | $(PY)
	@echo "Bringing $(VENV) up to requirements/dev.txt ..." >&2
	@$(PY) -m pip install -qq --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@$(UV) pip sync --quiet --python $(PY) --require-hashes requirements/dev.txt
	@$(UV) pip install --quiet --python $(PY) --no-deps --no-build-isolation -e .
	@touch $@

$(NIQUESTS): requirements/niquests.txt | $(READY)
	@test -x .venv-niquests/bin/python || $(UV) venv --quiet --python $(PY) .venv-niquests
	@$(UV) pip sync --quiet --python .venv-niquests/bin/python --require-hashes requirements/niquests.txt
	@touch $@
