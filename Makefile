# make demo    ten clients alone, together, and with all data in one place (installs fedkt the first time)
# make test    the tests without marks, two at a time; ARGS="-k knfu" passes arguments on to pytest
# make test-long   the marked ones: slow, data, deploy, browser (what cannot run here is skipped and says why)
# make reproduce   published figures beside measured ones, into docs/results; ARGS="fedproto-mnist" chooses tables
# make reproduce-nightly   the same with one seed and few rounds, in less than 20 minutes
# make pages   follows README, the tutorial and the how-tos as a reader does; ARGS="docs/tutorial.md" chooses pages
# make check   lint, format and types
# make findings   runs each script of findings/ and says whether the outside libraries still behave so (downloads)
# make clean   removes .venv, build products and caches; never runs/
#
# Each creates .venv, and installs into it when pyproject.toml or constraints.txt is newer.
# Another interpreter: make PYTHON=python3.12 demo

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-compile -c constraints.txt
QUICK := not slow and not data and not deploy and not browser
LONG := slow or data or deploy or browser

# Neither Ray nor Flower reports use from here.
export RAY_USAGE_STATS_ENABLED := 0
export FLWR_TELEMETRY_ENABLED := 0

.PHONY: help demo test test-long reproduce reproduce-nightly pages check findings clean

help:
	@sed -n '/^# make/s/^# //p' Makefile

demo: $(VENV)/.runtime
	$(BIN)/fedkt demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "$(QUICK)" $(ARGS)

test-long: $(VENV)/.dev
	$(BIN)/python -m pytest -m "$(LONG)" $(ARGS)

reproduce: $(VENV)/.runtime
	$(BIN)/python -m benchmarks.reproduce $(ARGS)

reproduce-nightly: $(VENV)/.runtime
	$(BIN)/python -m benchmarks.reproduce --nightly $(ARGS)

pages: $(VENV)/.dev
	$(BIN)/python tests/project/pages.py $(if $(ARGS),$(ARGS),README.md docs/tutorial.md docs/howto/*.md)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# One after another, each in a temporary environment of its own; what a failing one printed is shown.
findings:
	@failed=0; for finding in findings/*.sh; do \
	  if said=$$(PYTHON=$(PYTHON) bash $$finding 2>&1); then echo "pass  $$finding"; \
	  else failed=1; echo "FAIL  $$finding"; printf '%s\n' "$$said"; fi; \
	done; exit $$failed

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# .runtime: what `make demo` needs; .dev: that and the extra `dev`.
$(VENV)/.runtime: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing fedkt into $(VENV) (a minute or two)"
	@$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing fedkt and its development tools into $(VENV) (a minute or two)"
	@$(PIP_INSTALL) -e ".[dev,docs,tensorboard,mlflow]"
	@touch $(VENV)/.runtime $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "fedkt needs Python 3.11 or newer; $(PYTHON) is %d.%d. Name another one: make PYTHON=python3.11" % sys.version_info[:2])'
	@$(PYTHON) -m venv $(VENV)
