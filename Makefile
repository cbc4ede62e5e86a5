# make run: serves, on a fresh machine, with nothing but Python. make test: sets up what tests need, runs all.

# One that was compiled to be quick, if there is one.
PYTHON ?= $(shell .ci/python)
BIN := .venv/bin

# Some images forbid Python to store what it has compiled: each of the hundreds of servers that the tests start would
# compile the package again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup run test parts compiled lint types checks bench soak upgrade fuzz faults release docs console-picture lock dev

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

test: dev parts
	$(BIN)/pytest -n 5 --dist loadfile --no-loadscope-reorder --ignore=tests/hostile
	$(BIN)/pytest tests/hostile  # alone: it measures what others notice

parts:
	.ci/parts

# Imports all tests once, so that the processes that run them find the compiled files.
compiled: dev parts
	$(BIN)/pytest --collect-only --quiet --no-header > /dev/null

# With --jobs=2, both at once.
lint: types checks

types: dev
	$(BIN)/mypy

checks: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd examples/django_chat && PYTHONPATH=. ../../$(BIN)/mypy --cache-dir=../../.mypy_cache/django .
	$(BIN)/basedpyright
	$(BIN)/codespell

# make bench BENCH="--json results.json --svg drawings"; ANYCABLE_GO names a binary to compare with.
bench: dev
	$(BIN)/python -m bench $(BENCH)
	$(BIN)/python -m bench.long_polling
	$(BIN)/python -m bench.scale

# An hour of clients that come, whisper, resume and go: memory must return to what it was. make soak SECONDS=600
SECONDS ?= 3600
soak: dev
	$(BIN)/python -m bench --only soak --rounds 1 --seconds $(SECONDS)

# 18,000 clients change to a new server while messages go out: none may be lost. make upgrade UPGRADE="--workers 2 --slow 60"
upgrade: dev
	$(BIN)/python -m bench.upgrade $(UPGRADE)

# Hostile bytes for every pure core: FUZZ_INPUTS (a million) each; FUZZ_SEED repeats a run.
fuzz: dev
	nice -n 19 $(BIN)/python -m tests.fuzz

# Kills, hangs, cuts and splits everything, under load, on every engine: make faults FAULTS="--engine redisx --rounds 3"
faults: dev
	$(BIN)/python -m tests.faults $(FAULTS)

# Builds and checks the files of a release, on each Python here; make release RELEASE="--prepare 0.2.0", RELEASE=--tag
release: dev
	$(BIN)/python -m release $(RELEASE)

# Pages that are drawn from the code; a test sees that they are up to date.
docs: dev
	$(BIN)/python -m tests.config.docs > docs/options.md

# The picture of docs/console.md.
console-picture: dev parts
	$(BIN)/python -m tests.browser.console_picture

# Versions are pinned for every platform; no file names a registry.
LOCK := uv pip compile pyproject.toml --universal --generate-hashes --no-emit-index-url --no-annotate --quiet

lock:
	$(LOCK) --all-extras --group build --group test --group lint --group deploy --group release -o requirements/dev.txt
	$(LOCK) --all-extras --group build -c requirements/dev.txt -o requirements/run.txt
	$(LOCK) --extra server --extra jwt --extra nats --extra otel -c requirements/dev.txt -o requirements/image.txt
	uv pip compile --group build --universal --generate-hashes --no-emit-index-url --no-annotate --quiet -c requirements/dev.txt -o requirements/build.txt
