# The two commands of the README are `make demo` and `make test`; each works alone on a fresh checkout.
# PYTEST_ARGS goes to pytest (`make test PYTEST_ARGS='-k wrong_key -x'`). `make test` uses every core; with `-n 0` in
# PYTEST_ARGS, and in pytest without make, one test runs after another. FUZZ_ARGS goes to the fuzzer
# (`make fuzz FUZZ_ARGS='policy --inputs 1000'`).

SHELL := /bin/bash
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo test check bench fuzz ui bootstrap real-parts targets clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: bootstrap real-parts targets ## the whole path on this machine: from fleet.yaml to verified models on three agents
	@$(BIN)/edgewright demo

test: bootstrap real-parts targets ## every test: unit, command line, real registry and agents, power cuts, attacks
	@$(BIN)/pytest -n logical --dist worksteal --ignore=tests/benchmarks $(PYTEST_ARGS)

check: bootstrap ## lint, format, types, which package may import what, links and commands in the documents
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@env -u EDGEWRIGHT_TEST_SUMMARY $(BIN)/pytest -q tests/unit/test_imports.py # its counts are not those of `make test`
	@$(BIN)/python scripts/check_docs.py

bench: bootstrap real-parts targets ## figures, printed as ratios against a peer in the same run; nothing asserts a time
	@$(BIN)/pytest tests/benchmarks -s $(PYTEST_ARGS)

fuzz: bootstrap ## every parser that reads foreign bytes on a device: 100,000 inputs each, coverage-guided (x86-64)
	@PYTHONPATH=tests $(BIN)/python -m fuzz $(FUZZ_ARGS)

ui: bootstrap ## the Dagster UI on this fleet
	@$(BIN)/edgewright ui

bootstrap: ## only make .venv
	@scripts/bootstrap

real-parts: ## only fetch docker-registry, cosign, oras, skopeo, SoftHSM, mkfs.btrfs and systemd-analyze into .edgewright/tools
	@scripts/real-parts

targets: bootstrap ## only fetch the emulated processors and OpenVINO into the user's cache (instant when they are there)
	@$(BIN)/edgewright targets provision --arch amd64-qemu --arch arm64 --arch armv7 --arch riscv64 --arch amd64-openvino || [ -z "$$EDGEWRIGHT_REQUIRE_REAL" ]

clean: ## remove caches and build results; keeps .venv, tools and keys
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .edgewright/ci
	find agent pipelines models tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
