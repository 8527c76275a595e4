# Every target sets up what it needs from a fresh clone: a virtual environment in .venv, and the Debian packages that the
# demo and the tests talk to.  `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
PROJECTS := pyproject.toml $(wildcard plugins/*/pyproject.toml)
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
SOURCES := hsframework $(PLUGINS)
PIP_FLAGS := --quiet --disable-pip-version-check --constraint constraints.txt

FUZZ_SECONDS ?= 60
PYTEST_ARGS ?=
MUTANTS_ARGS ?=
PYTHONS ?=
DEB_RELEASES ?= bookworm trixie forky

.PHONY: help venv demo test lint docs bench fuzz mutants mutants-plugins stranger quick test-long test-pythons test-service wheels deb constraints clean peers compiler package-tools kernel-if-possible guests-if-possible

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(STAMP) ## the virtual environment in .venv, with everything in it

$(STAMP): constraints.txt $(PROJECTS)
	@scripts/apt-packages.sh base
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		"hsframework needs Python 3.11 or later, and $(PYTHON) is " + sys.version.split()[0] + \
		"; name another with  make PYTHON=python3.12 ...")'
	@echo "Setting up $(VENV) (once; about a minute)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install $(PIP_FLAGS) --editable '.[dev]' $(addprefix --editable ./,$(PLUGINS))
	@$(BIN)/python -m compileall -q $(SOURCES)
	@touch $@

peers: ## the Debian packages that demo and tests talk to
	@scripts/apt-packages.sh peers

package-tools: ## what checks the Debian packages and runs containers
	@scripts/apt-packages.sh packages

compiler: ## a C compiler, which tests want
	@scripts/apt-packages.sh compiler

demo: $(STAMP) peers ## the main job on this machine: TLS both ways with OpenSSL's own programs
	@$(BIN)/hsframework demo

test: $(STAMP) peers compiler package-tools lint docs guests-if-possible ## everything: style, types, documentation, and every tier of tests
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m pytest -m "not long" $(PYTEST_ARGS)

test-long: $(STAMP) peers package-tools guests-if-possible ## what takes longer than make test may: every disturbance of a booted Debian, minutes of chaos
	$(BIN)/python -m pytest -m long $(PYTEST_ARGS)

# Where the test kernel or the guests cannot be built (not root, no Debian), their tests are skipped; in CI that is an error.
kernel-if-possible:
	@$(MAKE) --no-print-directory kernel || { [ "$${CI:-}" != true ] && echo "The kernel tests will be skipped."; }

guests-if-possible: kernel-if-possible
	@$(PYTHON) -m scripts.guests || { [ "$${CI:-}" != true ] && echo "The system tests will be skipped."; }

test-pythons: $(STAMP) ## the unit tests on every Python that is supported: minutes each; make test-pythons PYTHONS=3.12
	$(BIN)/python -m scripts.pythons $(PYTHONS)

test-service: $(STAMP) ## the service and its demonstration on every Python that is supported
	$(BIN)/python -m scripts.pythons --service $(PYTHONS)

quick: $(STAMP) ## the unit tests alone, for use while writing
	$(BIN)/python -m pytest tests/unit $(PYTEST_ARGS)

lint: $(STAMP) ## style and form (ruff), types (mypy), references that lead somewhere, plain first lines
	@failed=; check() { echo "$(BIN)/$$*"; "$(BIN)/$$@" || failed="$$failed, $$*"; }; \
	check ruff check .; \
	check ruff format --check .; \
	check mypy; \
	check python -m scripts.lint.references; \
	check python -m scripts.lint.prose; \
	[ -z "$$failed" ] || { echo "lint failed: $${failed#, }" >&2; exit 1; }

docs: $(STAMP) ## the documentation, in docs/_build/html; a warning is an error, and so is a link that leads nowhere
	$(BIN)/python -m sphinx -q -W --keep-going -b html -d docs/_build/doctrees docs docs/_build/html
	$(BIN)/python docs/check_links.py docs/_build/html

fuzz: $(STAMP) ## random input for FUZZ_SECONDS seconds in all (60): make fuzz FUZZ_SECONDS=3600
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m pytest tests/fuzz -m fuzz --timeout=0 $(PYTEST_ARGS)

mutants: $(STAMP) ## general faults in our own code, one at a time, each of which a test is to catch (an hour and more)
	$(BIN)/python -m scripts.mutants run $(MUTANTS_ARGS)

mutants-plugins: $(STAMP) ## the same in the plugins and the examples alone, whose first judge is the conformance suite
	$(BIN)/python -m scripts.mutants run --plugins $(MUTANTS_ARGS)

stranger: $(STAMP) ## the tutorial's first page, command by command, from wheels in an empty environment, timed
	$(BIN)/python -m pytest tests/wheels/test_first_plugin.py --durations=0 $(PYTEST_ARGS)

bench: $(STAMP) ## the measurements that the documentation quotes
	@for script in benchmarks/*.py; do echo "== $$script"; \
		$(BIN)/python -m "benchmarks.$$(basename "$$script" .py)"; done

wheels: $(STAMP) ## the distributions, in dist/
	@for project in . $(PLUGINS); do $(BIN)/python -m build --no-isolation --outdir dist "$$project" >/dev/null; done
	@ls dist

deb: $(STAMP) ## Debian packages of the core and of each plugin, in dist/debian: make deb DEB_RELEASES=trixie
	@scripts/apt-packages.sh deb
	$(BIN)/python -m scripts.packages $(DEB_RELEASES)

constraints: ## renew constraints.txt from what is newest now
	@$(PYTHON) -m venv build/constraints
	@build/constraints/bin/pip install --quiet --disable-pip-version-check --upgrade '.[dev]' $(addprefix ./,$(PLUGINS)) './examples/noise[test]' './examples/spake2[test]'
	@{ sed -n '/^#/p' constraints.txt; build/constraints/bin/pip freeze | grep == | sort -f; } > build/constraints.txt
	@mv build/constraints.txt constraints.txt
	@rm -r build/constraints

clean: ## everything that a target has made
	rm -rf $(VENV) build dist docs/_build docs/reference/generated .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

include scripts/kernel/kernel.mk
include scripts/guests/guests.mk
