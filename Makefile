# Forwards to the tools; nothing is only here.
PYTHON ?= python3
NAME ?= unsloth_env
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help setup create test slow lint format clean

help:
	@echo "make create [ARGS='--gpu h100 …'] [NAME=unsloth_env]   set up, then provision create"
	@echo "make test     the suite that CI runs (≤ 20 minutes)"
	@echo "make slow     minutes and gigabytes: real stacks, whole builds, big property runs"
	@echo "make lint     ruff and mypy"

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable '.[dev]'
	touch $@

create: setup
	$(BIN)/provision create $(NAME) $(ARGS)

test: setup
	$(BIN)/python -m pytest -q -m 'not slow and not gpu' $(ARGS)

slow: setup
	$(BIN)/python -m pytest -q -m 'slow and not gpu' $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) dist build
