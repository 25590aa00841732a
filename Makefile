# Everything here sets itself up in ./.venv: no other preparation is needed.
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test slow lint docs clean
.DEFAULT_GOAL := demo

demo: .venv/base  ## mask a simulated Sentinel-2 product and score it
	$(BIN)/unclouded demo --output demo-out --overwrite

test: lint  ## style, types, and the default test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

slow: .venv/dev  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: .venv/dev  ## the documentation, as a folder of pages: build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --site-dir build/site

.venv/bin/python:
	$(PYTHON) -m venv .venv || { $(PYTHON) -m pip install --user virtualenv && $(PYTHON) -m virtualenv .venv; }

.venv/base: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) install --constraint constraints.txt --editable .
	touch $@

.venv/dev: .venv/base
	$(PIP) install --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv demo-out build dist
