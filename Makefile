# `make search` and `make test` are all that a fresh machine needs.
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: search test check format clean

search: $(VENV)/installed
	$(BIN)/hpo search --trials 50

test: check
	$(BIN)/pytest

check: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --editable .
	touch $@

$(VENV)/installed-dev: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --editable '.[dev]'
	touch $(VENV)/installed $@

clean:
	rm -rf $(VENV) build *.egg-info
