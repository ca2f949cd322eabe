# Everything a developer types. `make` alone lists the targets.
#
# Needs Python 3.11 or newer, make, and a way to PyPI; all else comes from uv.lock into .venv.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install install-dev install-bench run test simulate test-installation lint format compile bench clean
.PHONY: cluster-up cluster-down cluster-status docker-up docker-down docker-status

PYTHON ?=
ARGS ?=
TEST_WORKERS ?= 2

UV_VERSION := 0.13.9
VENV := .venv
BIN := $(VENV)/bin
# The groups share one environment: --inexact adds to it and takes nothing away.
SYNC := UV_PYTHON_DOWNLOADS=never UV_PROJECT_ENVIRONMENT=$(VENV) $(BIN)/uv sync --frozen --inexact --python $(BIN)/python
LOCK := pyproject.toml uv.lock

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.uv-$(UV_VERSION): .ci/bootstrap.py
	@chosen="$(PYTHON)"; \
	for candidate in $$chosen python3 python3.14 python3.13 python3.12 python3.11; do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi; candidate=; \
	done; \
	if [ -z "$$candidate" ]; then echo "make: Python 3.11 or newer is needed: install it, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; fi; \
	echo "==> creating $(VENV) with $$("$$candidate" --version)"; \
	"$$candidate" .ci/bootstrap.py $(VENV) uv==$(UV_VERSION)
	@touch $@

$(VENV)/.runtime: $(VENV)/.uv-$(UV_VERSION) $(LOCK)
	@echo "==> installing what rtx needs to run"
	@$(SYNC) --no-dev
	@touch $@

$(VENV)/.dev: $(VENV)/.uv-$(UV_VERSION) $(LOCK)
	@echo "==> installing rtx and what its tests need"
	@$(SYNC) --group dev
	@touch $@ $(VENV)/.runtime

$(VENV)/.bench: $(VENV)/.dev
	@echo "==> installing the peers that the benchmarks compare with"
	@$(SYNC) --group dev --group bench
	@touch $@

install: $(VENV)/.runtime ## make .venv from the lock file, with what `rtx` needs to run

install-dev: $(VENV)/.dev ## the same, with what tests and checks need

install-bench: $(VENV)/.bench ## the same, with what the benchmarks need

run: install ## start everything here: API on 8080, metrics on 9090, demo traders (options: ARGS="--no-demo ...")
	@exec $(BIN)/rtx dev $(ARGS)

test: install-dev ## run the tests (options: ARGS="tests/unit -k book")
	@$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile -m "not installation and not e2e" $(ARGS)

simulate: install-dev ## run the cluster on simulated time from seeds (options: ARGS="--seeds 10000 --first 1")
	@$(BIN)/python -m tests.simulation $(ARGS)

test-installation: install-dev ## run `make run` and `make test` from a clean clone on a clean Debian (root, debootstrap)
	@$(BIN)/python -m pytest tests/installation -m installation -s $(ARGS)

cluster-up: install-dev ## start a real Kubernetes node for the tests (root; the first time takes minutes)
	@$(BIN)/python -m tools.cluster up

cluster-down: install-dev ## stop it and remove all that it had
	@$(BIN)/python -m tools.cluster down

cluster-status: install-dev ## say what of it runs; fails unless all does
	@$(BIN)/python -m tools.cluster status

docker-up: install-dev ## start a Docker engine for the tests, apart from this machine's (root)
	@$(BIN)/python -m tools.cluster up docker

docker-down: install-dev ## stop it and remove all that it had
	@$(BIN)/python -m tools.cluster down docker

docker-status: install-dev ## say what of it runs; fails unless all does
	@$(BIN)/python -m tools.cluster status docker

lint: install-dev ## check style, types and the rules of who imports whom
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: install-dev ## format the code and mend what can be mended by itself
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

compile: install-bench ## the core as machine code, in build/compiled, and its tests on that (needs a C compiler)
	@$(BIN)/python -m tools.compile_core
	@PYTHONPATH=build/compiled $(BIN)/python -m pytest -n $(TEST_WORKERS) tests/unit/core tests/property

bench: install-bench ## measure against peers and limits (see benchmarks/README.md)
	@$(BIN)/python -m benchmarks $(ARGS)

clean: ## remove .venv and the caches; data under .rtx stays
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
