# A thin shell over pip: README.md and CONTRIBUTING.md show the same commands.
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
EXTRAS ?= dev
TESTS ?=
OLDEST := tests/tuning tests/training tests/engine/test_equality.py tests/artifact tests/models tests/data tests/tasks \
	tests/measures tests/finetune tests/test_sklearn.py tests/test_registry.py tests/study/store tests/cli/test_bad_input.py \
	tests/cli/test_boundary.py
BIN := $(VENV)/bin
DENI_DATA ?= $(wildcard ../shared/data)
ifneq ($(DENI_DATA),)
export DENI_DATA := $(abspath $(DENI_DATA))
endif
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo test test-oldest test-without-data check gpu-bundle docs docs-serve docs-version package \
	package-test install clean

# Installs what the demo needs, and nothing else.
demo: $(VENV)/.demo
	$(BIN)/deni demo --overwrite

test: install
	$(BIN)/python -m pytest -n auto --dist worksteal $(TESTS)

# With the oldest versions that pyproject.toml allows; the only ones with the package `adapters`, which UniPELT needs.
test-oldest:
	$(MAKE) test VENV=.venv-oldest CONSTRAINTS=constraints-oldest.txt EXTRAS=test,unipelt TESTS="-W default $(OLDEST)"

# What reads documentation, examples and results, in a copy of the checkout without datasets.
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

# Adds the documentation of this version to the branch gh-pages, as the latest; it does not push.
docs-version: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mike deploy --config-file mkdocs.versions.yml --update-aliases \
		"$$($(BIN)/python -c 'from deni import __version__ as v; print(v.rpartition(".")[0])')" latest
	$(BIN)/mike set-default --config-file mkdocs.versions.yml latest

# What a release uploads, in dist/: the source and the wheel, checked by twine.
package:
	$(PYTHON) -m venv .venv-package
	.venv-package/bin/python -m pip install --quiet build twine
	rm -rf dist
	.venv-package/bin/python -m build
	.venv-package/bin/python -m twine check --strict dist/*

# Installs the wheel of make package in a new environment outside the checkout, and runs a small demo.
package-test: package
	rm -rf .venv-wheel && $(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet --constraint $(CONSTRAINTS) torch
	wheel=$$(ls $(CURDIR)/dist/*.whl) && .venv-wheel/bin/python -m pip install --quiet --constraint $(CONSTRAINTS) "deni[demo] @ file://$$wheel"
	cd .venv-wheel && bin/deni demo --overwrite --seeds 2 --labeled 48 --epochs 2

# Bytecode is compiled for what is imported, not for all: 0.3 GB less.
$(VENV)/.demo: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint $(CONSTRAINTS) torch
	$(BIN)/python -m pip install --quiet --no-compile --constraint $(CONSTRAINTS) --editable ".[demo]"
	@touch $@

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) torch
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable ".[$(EXTRAS)]"
	@touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) .venv-oldest .venv-package .venv-wheel build dist site benchmarks/gpu/bundle *.egg-info
