# A thin shell over pip: the README shows the same commands.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DENI_DATA ?= $(wildcard ../shared/data)
ifneq ($(DENI_DATA),)
export DENI_DATA := $(abspath $(DENI_DATA))
endif
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo test check install clean

demo: install
	$(BIN)/deni demo

test: install
	$(BIN)/python -m pytest -n auto --dist worksteal

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
