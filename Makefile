# `make search` and `make test` are all that a fresh machine needs.
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: search test check structure format bench peers clean

search: $(VENV)/installed
	$(BIN)/hpo search --trials 50 --timeout 5m

test: check
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/prose.py

structure: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks.structure
	$(BIN)/python -m benchmarks.frames

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

bench: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks.splits
	$(BIN)/python -m benchmarks.decode movie-posters
	$(BIN)/python -m benchmarks.decode anime-covers
	$(BIN)/python -m benchmarks.features
	$(BIN)/python -m benchmarks.fit movie-posters
	$(BIN)/python -m benchmarks.heads
	$(BIN)/python -m benchmarks.finetune
	$(BIN)/python -m benchmarks.thresholds
	$(BIN)/python -m benchmarks.decisions movie-posters
	$(BIN)/python -m benchmarks.decisions anime-covers
	$(BIN)/python -m benchmarks.flattery
	$(BIN)/python -m benchmarks.search movie-posters
	$(BIN)/python -m benchmarks.search anime-covers
	$(BIN)/python -m benchmarks.workers
	$(BIN)/python -m benchmarks.pruning
	$(BIN)/python -m benchmarks.tracking
	$(BIN)/python -m benchmarks.predict
	$(BIN)/python -m benchmarks.limits
	$(BIN)/python -m benchmarks.cold
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.growth
	$(BIN)/python -m benchmarks.efficiency
	$(BIN)/python -m benchmarks.fuzz
	$(BIN)/python -m benchmarks.peers.run

# What `make bench` measures hpo beside: an environment each, 8 GB in all. Without them it passes that over.
peers: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks.peers.environments

clean:
	rm -rf $(VENV) build *.egg-info
