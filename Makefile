# Everything runs in .venv, which is made from the lock file when it is missing or outdated.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
DATA ?=
OUT ?= demo-output

.PHONY: demo test lint setup bench clean lock

demo: $(BIN)/.ready  ## the main job on real images; DATA=FOLDER for your own
	@$(BIN)/fewclip demo $(if $(DATA),"$(DATA)") -o "$(OUT)"

test: $(BIN)/.ready  ## all tests
	@$(BIN)/python -m pytest

lint: $(BIN)/.ready  ## style, types, import rules
	$(BIN)/ruff check src tests scripts benchmarks
	$(BIN)/ruff format --check src tests scripts benchmarks
	$(BIN)/pyright
	$(BIN)/lint-imports

setup: $(BIN)/.ready  ## the environment alone

$(BIN)/.ready: requirements.lock pyproject.toml
	@echo "Setting up .venv with $(PYTHON) (once; about 2 GB on disk, a few minutes)"
	@rm -rf .venv
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

bench: $(BIN)/.ready  ## all benchmarks, within 15 minutes; needs the shared data
	$(BIN)/python benchmarks/run.py --data ../shared/data -o bench-output

lock:  ## write requirements.lock anew from pyproject.toml
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --disable-pip-version-check "setuptools>=77" torch==2.13.0 -e ".[dev]"
	.venv-lock/bin/python -m pip freeze --all --exclude-editable --exclude pip \
	  | sed 's/^torch==\([0-9.]*\)+cpu/torch==\1/' > requirements.lock.new
	mv requirements.lock.new requirements.lock
	rm -rf .venv-lock

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis demo-output bench-output
