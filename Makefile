# A thin shell over pip: the README shows the same commands.
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
EXTRAS ?= dev
TESTS ?=
BIN := $(VENV)/bin
DENI_DATA ?= $(wildcard ../shared/data)
ifneq ($(DENI_DATA),)
export DENI_DATA := $(abspath $(DENI_DATA))
endif
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo test test-unipelt test-without-data check gpu-bundle docs docs-serve install clean

demo: install
	$(BIN)/deni demo

test: install
	$(BIN)/python -m pytest -n auto --dist worksteal $(TESTS)

# On transformers 4.57, with the package `adapters`: what concerns UniPELT and the trainer.
test-unipelt:
	$(MAKE) test VENV=.venv-unipelt CONSTRAINTS=constraints-unipelt.txt EXTRAS=dev,unipelt \
		TESTS="tests/tuning tests/training tests/engine/test_equality.py tests/artifact/test_artifact.py tests/test_finetune.py"

# What reads documentation, examples and results, in a copy of the checkout that has no datasets beside it.
test-without-data: install
	copy=$$(mktemp -d) && trap 'rm -rf "$$copy"' EXIT \
		&& git ls-files -z | tar -c --null -T - | tar -x -C "$$copy" && python=$(abspath $(BIN)/python) && cd "$$copy" \
		&& env -u DENI_DATA PYTHONPATH="$$copy/src" $$python -m pytest -n auto --dist worksteal tests/test_code_blocks.py \
			tests/test_docs.py tests/test_results.py tests/test_site.py tests/test_benchmarks.py tests/study/test_examples.py

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What benchmarks/gpu/run.py needs on a machine without a network: wheels, MiniLM, the datasets.
gpu-bundle: install
	$(BIN)/python benchmarks/gpu/bundle.py benchmarks/gpu/bundle

# The documentation as a site in site/: open site/index.html, or let docs-serve follow what you write.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) torch
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable ".[$(EXTRAS)]"
	@touch $@

clean:
	rm -rf $(VENV) .venv-unipelt build dist site benchmarks/gpu/bundle *.egg-info
