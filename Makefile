# demo    train against a server on this machine, and see the report
# quick   format, lint, types, import contracts, and the tests of what changed: for the inner loop
# test    run the whole test suite
# coverage  the same, and which lines and branches it ran, the least covered modules first
# check   everything that a change has to pass: lint, then test
# lint    format, lint, types, import contracts, documentation
# bench   measure, and print each figure beside its bar
# gpu     what only a GPU can show, on this machine's
# chaos   kill, cut and damage while runs train, and show that they come out the same
# docs    build the documentation into site/
# colab   make the one cell and the notebook from the sources
# pictures  take the pictures of the dashboard that the documentation shows
# format  write the source the way that `check` wants it
# messages  take new messages into the translations, and compile them
# constraints  choose every version anew
# clean   remove what these commands made
#
# Each one sets up .venv first, when it is missing or older than the files that define it.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
LOG := $(VENV)/install.log
# Tests mostly wait for servers to start; more of them at once than this would starve each other.
WORKERS := 3
# A file's tests share a server; the files come in the order of tests/conftest.py.
SPREAD := --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder
SOURCES := src $(wildcard tests benchmarks chaos examples translations) $(wildcard tools/*.py)

# The first Python here that is new enough; a name on PATH need not run (pyenv's shims).
PYTHON ?= $(shell for name in python3.11 python3; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null </dev/null \
	&& echo "$$name" && break; done)

# mkdocs-material announces its successor at each build (docs/decisions/0001-tooling.md).
export NO_MKDOCS_2_WARNING := 1

.NOTPARALLEL:
.PHONY: demo quick test coverage check lint code bench gpu chaos docs colab pictures format messages constraints clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	@$(BIN)/omega21 demo

quick: code
	@echo "tests of what changed"
	@tests=$$($(BIN)/python tools/changed_tests.py) && $(BIN)/python -m pytest --quiet --exitfirst \
		$(SPREAD) $$tests

test: $(VENV)/.tools
	@$(BIN)/python -m pytest $(SPREAD)

# Some 40 % more processor time than `test`: server and commands are processes of their own, and measured too.
coverage: $(VENV)/.tools
	@rm -rf build/coverage && mkdir -p build/coverage
	@$(BIN)/coverage run -m pytest $(SPREAD)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --sort=cover >build/coverage/report.txt
	@sed -n '1,30p;$$p' build/coverage/report.txt
	@echo "all of it is in build/coverage/report.txt"

check: lint test

lint: code
	@echo "documentation"
	@$(BIN)/mkdocs build --quiet --strict

code: $(VENV)/.tools
	@echo "format"
	@$(BIN)/ruff format --quiet --check --diff
	@echo "lint"
	@$(BIN)/ruff check --quiet
	@echo "types"
	@$(BIN)/mypy --no-error-summary $(SOURCES)
	@echo "import contracts"
	@$(BIN)/lint-imports --no-logo --no-cache

bench: $(VENV)/.tools
	@$(BIN)/python -m benchmarks

# Computes with the torch that is there: ours would be the CPU's.
gpu:
	@tools/gpu

chaos: $(VENV)/.tools
	@$(BIN)/python -m chaos

docs: $(VENV)/.tools
	@$(BIN)/mkdocs build --quiet --strict
	@echo "open site/index.html"

colab: $(VENV)/.tools
	@$(BIN)/python $(wildcard tools/*.py)

pictures: $(VENV)/.tools
	@OMEGA21_PICTURES=docs/images $(BIN)/python -m pytest --quiet tests/dashboard/test_pictures.py

format: $(VENV)/.tools
	@$(BIN)/ruff check --quiet --fix-only
	@$(BIN)/ruff format

messages: $(VENV)/.tools
	@$(BIN)/python -m translations

# Other versions: from an empty environment. Another list of packages: on top of what is there.
$(VENV)/.made: constraints.txt
	@$(if $(PYTHON),,echo "omega21 needs Python 3.11 or newer, found: $$(python3 --version 2>&1)." \
		"Install it, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1)
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# The build backend comes first and pinned, since pip builds with its own choice otherwise.
$(VENV)/.installed: $(VENV)/.made pyproject.toml
	@echo "installing omega21 (some minutes the first time: torch is large)"
	@{ $(PIP) install --constraint constraints.txt hatchling && \
		$(PIP) install --constraint constraints.txt --no-build-isolation \
			--editable '.[report,server]'; } >$(LOG) 2>&1 \
		|| { tail -n 20 $(LOG); echo "the whole of it is in $(LOG)"; exit 1; } >&2
	@touch $@

$(VENV)/.tools: $(VENV)/.installed
	@echo "installing the tools that check, test and measure it"
	@$(PIP) install --constraint constraints.txt --no-build-isolation \
			--editable '.[dev]' >$(LOG) 2>&1 \
		|| { tail -n 20 $(LOG); echo "the whole of it is in $(LOG)"; exit 1; } >&2
	@touch $@

# To be run with the oldest Python 3.11 there is: a release may ask for a later patch of it.
constraints: $(VENV)/.made
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install --quiet hatchling
	@$(PIP) install --quiet --no-build-isolation --editable '.[dev]' 'torch==2.13.0'
	@sed '/^[^#]/d' constraints.txt > $(VENV)/constraints.txt
	@$(PIP) freeze --exclude-editable | sed 's/^\(torch==[^+]*\)+.*/\1/' >> $(VENV)/constraints.txt
	@mv $(VENV)/constraints.txt constraints.txt

clean:
	rm -rf $(VENV) site build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests $(wildcard benchmarks chaos examples) -name __pycache__ -type d -prune -exec rm -rf {} +
