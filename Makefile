# make run: serves, on a fresh machine, with nothing but Python. make test: sets up what tests need, runs all.

# One that was compiled to be quick, if there is one.
PYTHON ?= $(shell .ci/python)
BIN := .venv/bin

.PHONY: setup run test lint bench fuzz faults docs lock dev

setup: .venv/run.done

.venv/run.done: pyproject.toml requirements/run.txt
	test -x $(BIN)/python || $(or $(PYTHON),false) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes -r requirements/run.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

dev: .venv/dev.done

.venv/dev.done: .venv/run.done requirements/dev.txt
	$(BIN)/pip install --quiet --require-hashes -r requirements/dev.txt
	touch $@

run: setup
	$(BIN)/catenary --public --norpc --broadcast_adapter=http

test: dev
	.ci/parts
	$(BIN)/pytest -n 3 --dist loadfile --ignore=tests/hostile
	$(BIN)/pytest tests/hostile  # alone: it measures what others notice

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd examples/django_chat && PYTHONPATH=. ../../$(BIN)/mypy --cache-dir=../../.mypy_cache/django .
	$(BIN)/basedpyright
	$(BIN)/codespell

# make bench BENCH="--json results.json --svg drawings"; ANYCABLE_GO names a binary to compare with.
bench: dev
	$(BIN)/python -m bench $(BENCH)

# Hostile bytes for every pure core: FUZZ_INPUTS (a million) each; FUZZ_SEED repeats a run.
fuzz: dev
	nice -n 19 $(BIN)/python -m tests.fuzz

# Kills, hangs, cuts and splits everything, under load, on every engine: make faults FAULTS="--engine redisx --rounds 3"
faults: dev
	$(BIN)/python -m tests.faults $(FAULTS)

# Pages that are drawn from the code; a test sees that they are up to date.
docs: dev
	$(BIN)/python -m tests.config.docs > docs/options.md

# Versions are pinned for every platform; no file names a registry.
LOCK := uv pip compile pyproject.toml --universal --generate-hashes --no-emit-index-url --no-annotate --quiet

lock:
	$(LOCK) --all-extras --group build --group test --group lint -o requirements/dev.txt
	$(LOCK) --all-extras --group build -c requirements/dev.txt -o requirements/run.txt
