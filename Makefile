# make run            play a backend and serve it          make run DATA=/some/path   serve that data path
# make test           install what tests need, then lint, types, tests
# make audit          look the dependencies up in the public advisories (needs the internet)
# make docs           write docs/settings.md from the code
# make soak           an hour of mixed clients and faults           make soak MINUTES=20
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin

run: .venv/installed
	@$(if $(DATA),$(BIN)/gateway serve --data-path "$(DATA)",$(BIN)/gateway demo) $(ARGS)

test: .venv/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses auto --dist loadfile $(ARGS)

soak: .venv/tested
	$(BIN)/python -m tests.soak $(or $(MINUTES),60)

audit: .venv/tested
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/pip-audit --skip-editable

.venv/installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed"; exit 1; }
	@sh tests/system.sh venv $(PYTHON)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/tested: .venv/installed tests/system.sh
	@sh tests/system.sh tests
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

docs: .venv/installed
	$(BIN)/python -m gateway.description.settings > docs/settings.md

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: run test soak audit docs clean
