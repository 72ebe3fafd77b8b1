# One command per job. `make` alone lists them.
#
# Each target makes its own environment first (tools/setup: a second or so when nothing has changed), so a fresh
# checkout needs nothing but make itself.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup build build-debug run demo test lint proto bench load storm sim fuzz soak docs constraints package clean distclean

BIN := .venv/bin
PY := $(BIN)/python
# Only where tools call each other: what `make run` prints to try must fit the caller's own PATH.
lint test load docs: export PATH := $(CURDIR)/$(BIN):$(PATH)

# Where `make run` keeps its broker: keys, licences, tokens. `make clean` throws it away.
RUN_DIR ?= build/run
# More arguments for the command at hand: make test ARGS="-k deficit", make load ARGS="--scenario login_rush".
ARGS ?=

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:  ## system packages (as root), .venv, pinned packages, compiled parts: all that the other commands need
	@tools/setup broker dev load

build:  ## compile what has changed
	@tools/setup broker

build-debug:  ## compile without optimisation, with asserts and bounds checks armed
	@tools/setup --debug broker

run:  ## a broker with emulated keys on this machine, until Ctrl-C
	@tools/setup broker
	@exec $(BIN)/usher serve --emulate --data-dir $(RUN_DIR) $(ARGS)

demo:  ## a guided tour: 15 seats, 16 logins, a key pulled, an app killed; status 0 if all is as said
	@tools/setup broker
	@$(PY) -m loadtests.demo $(ARGS)

test:  ## every test
	@tools/setup broker dev load
	@$(PY) -m pytest $(ARGS)

lint:  ## ruff, mypy --strict, import contracts, buf
	@tools/setup broker dev load
	@ruff check .
	@mypy
	@cd deploy/grafana && mypy --config-file ../../pyproject.toml overview.py panels.py
	@lint-imports --no-logo
	@buf lint proto

proto:  ## generate broker/v1 from proto/
	@tools/setup broker dev
	@$(PY) tools/proto.py

bench:  ## Usher beside its peers, and the ledger alone: table, build/bench.json
	@tools/setup broker dev
	@tools/setup-bench
	@$(PY) -m loadtests.bench $(ARGS)

load:  ## locust scenarios against a broker of their own: report in build/load/
	@tools/setup broker load
	@$(PY) -m loadtests.run $(ARGS)

storm:  ## a compiled load generator, every answer checked: a tour, or make storm ARGS="--cycle renew --sessions 10000"
	@tools/setup broker
	@$(PY) -m loadtests.storm $(ARGS)

sim:  ## a broker's life under a virtual clock, faults at every turn: make sim ARGS="--seconds 60"
	@tools/setup broker dev
	@$(PY) -m tests.sim $(ARGS)

fuzz:  ## the layers without I/O under sanitizers: make fuzz ARGS="run h2 --seconds 60"
	@tools/setup broker dev fuzz
	@$(PY) -m tools.fuzz $(or $(ARGS),run)

soak:  ## what needs hours: fuzzing, lockstep, a million connections; make soak ARGS="--minutes 10 --only churn"
	@tools/setup broker dev load fuzz
	@$(PY) -m tools.soak $(ARGS)

docs:  ## check that links and commands in the documents are real
	@tools/setup broker dev
	@$(PY) -m pytest -q tests/house/test_docs.py

constraints:  ## write constraints.txt from what is installed now
	@tools/setup broker dev load
	@$(PY) tools/constraints.py

package:  ## a wheel of this machine's kind, in dist/
	@tools/setup broker dev
	@$(PY) -m pip --disable-pip-version-check -q wheel --no-deps --no-build-isolation -w dist .

clean:  ## throw away what was built, and the broker of `make run`
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find broker hwkey ext loadtests tests tools -name __pycache__ -prune -exec rm -rf {} +
	@rm -f broker/*.so loadtests/*.so $(patsubst %.pyx,%.c,$(wildcard ext/*/*.pyx)) $(patsubst %.pyx,%.html,$(wildcard ext/*/*.pyx))

distclean: clean  ## and the virtual environment
	@rm -rf .venv
