# make repro   install, then run the pipeline and print what came out
# make test    install, then lint, types, import contracts and tests
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_EXTRAS := $(VENV)/.installed-extras

export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: install setup repro test lint lock clean

install: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# the optional second converter, which the tests compare with the first
$(INSTALLED_EXTRAS): $(INSTALLED) requirements-litert.lock
	$(BIN)/python -m pip install --quiet --no-deps -r requirements-litert.lock
	touch $@

setup: install
	ethos init

repro: setup
	ethos doctor --fast
	dvc repro
	ethos summary

lint: install
	ruff check .
	ruff format --check .
	mypy
	lint-imports

test: lint $(INSTALLED_EXTRAS)
	pytest

lock: install
	sed -n '/^#/p' requirements.lock > requirements.lock.new
	$(BIN)/python -m pip freeze --all --exclude pip --exclude-editable \
	  | grep -viE '^(nvidia-|triton)' \
	  | grep -vixFf requirements-litert.lock \
	  | sed -E 's/^(torch|torchvision)==([0-9.]+).*/\1==\2/' >> requirements.lock.new
	mv requirements.lock.new requirements.lock

clean:
	rm -rf $(VENV) outputs .dvc/tmp .mypy_cache .pytest_cache .ruff_cache build dist
