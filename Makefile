# make run            play a backend and serve it          make run DATA=/some/path   serve that data path
# make test           lint, types, and the tests of every feature's core: some minutes, and nothing but Python
# make test-all       that, and all other tests: browsers, proxies, Redis, other languages, floods; installs programs
# make test-pythons   make test with each Python that is here, one after the other
# make test-windows   those that concern Windows, by a Python for Windows under Wine (installed where that may be)
# make audit          look the dependencies up in the public advisories (needs the internet)
# make docs           write docs/settings.md from the code
# make constraints    pin what is installed to the newest versions (needs a package index)
# make flood          floods, bursts and broken parts       make flood CASES='pings redis-full'
# make soak           an hour of mixed clients and faults           make soak MINUTES=20
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin

run: $(VENV)/installed
	@$(if $(DATA),$(BIN)/gateway serve --data-path "$(DATA)",$(BIN)/gateway demo) $(ARGS)

test: $(VENV)/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses auto --dist worksteal -m 'not extended' $(ARGS)

test-all: test $(VENV)/programs
	$(BIN)/pytest --numprocesses auto --dist worksteal -m extended $(ARGS)

test-pythons:
	@for v in 3.11 3.12 3.13 3.14; do \
		if python$$v -c 'import venv' 2>/dev/null; then $(MAKE) test PYTHON=python$$v VENV=.venv-$$v || exit; fi; done

test-windows: $(VENV)/tested
	@$(BIN)/python -m tests.windows $(ARGS)

soak: $(VENV)/tested
	$(BIN)/python -m tests.soak $(or $(MINUTES),60)

flood: $(VENV)/programs
	$(BIN)/python -m tests.flood $(CASES) $(ARGS)

constraints: $(BIN)/python
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras --no-annotate \
		--custom-compile-command 'make constraints' --system-certs --output-file constraints.txt pyproject.toml

audit: $(VENV)/tested
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/pip-audit --skip-editable

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed"; exit 1; }
	@sh tests/system.sh venv $(PYTHON)
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]'
	@touch $@

$(VENV)/tested: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@

$(VENV)/programs: tests/system.sh | $(VENV)/tested
	@sh tests/system.sh tests
	@touch $@

docs: $(VENV)/installed
	$(BIN)/python -m gateway.description.settings > docs/settings.md

clean:
	rm -rf .venv .venv-* build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: run test test-all test-pythons test-windows constraints docs soak flood audit clean
