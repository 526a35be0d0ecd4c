# make app    sets up .venv and opens the app on a shipped identity
# make test   sets up .venv with the training and test packages and runs the tests
# make lint   checks style (ruff), types (ty) and which room imports which (import-linter)
# make wheel  builds the installable package into dist/
#
# PYTHON=python3.12            another interpreter (3.11 to 3.13)
# TORCH_INDEX=URL              take torch from this index, for instance PyTorch's CPU-only one
# ARGS="--port 7861"           options for app.py or, with `make test`, for pytest

VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
TORCH_INDEX ?=
ARGS ?=
BIN := $(VENV)/bin

.PHONY: app setup test lint wheel clean
.DELETE_ON_ERROR:

app: $(VENV)/.app
	$(BIN)/python app.py $(ARGS)

setup: $(VENV)/.app

test: $(VENV)/.test
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.test
	@status=0; for check in "ruff check ." "ty check --python $(VENV)" "lint-imports"; do \
	  echo "$$check"; $(BIN)/$$check || status=1; \
	done; exit $$status

wheel: $(VENV)/.test
	$(BIN)/pip wheel --no-deps --no-build-isolation -w dist .

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "DGTalker needs Python 3.11, 3.12 or 3.13: make app PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Plain `pip install torch` on Linux brings several GB of CUDA packages: without a GPU, first ask for the CPU build.
$(VENV)/.torch: | $(BIN)/python
	@if ! $(BIN)/python -c 'import torch' 2>/dev/null; then \
	  if [ -n "$(TORCH_INDEX)" ]; then $(BIN)/pip install --index-url "$(TORCH_INDEX)" "torch>=2.8,<=2.13.0"; \
	  elif [ "$$(uname)" = Linux ] && ! command -v nvidia-smi >/dev/null 2>&1; then \
	    $(BIN)/pip install -q "torch==2.13.0+cpu" 2>/dev/null || \
	      echo "No CPU build of torch in the configured indexes; set TORCH_INDEX to spare the CUDA packages."; \
	  fi; \
	fi
	@touch $@

$(VENV)/.app: requirements.txt $(VENV)/.torch
	@echo "Installing the app's packages (the first time takes some minutes)"
	$(BIN)/pip install -q -r requirements.txt
	@touch $@

$(VENV)/.test: requirements-training.txt requirements-test.txt requirements-lint.txt $(VENV)/.app
	@echo "Installing the training and test packages (the first time takes some minutes)"
	$(BIN)/pip install -q -r requirements.txt -r requirements-training.txt -r requirements-test.txt -r requirements-lint.txt
	@touch $@

clean:
	rm -rf $(VENV)
