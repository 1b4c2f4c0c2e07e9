# Executable documentation of the workflow. A fresh machine needs Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin
SHARED ?= ../shared
# One more than the two cores of a small machine: tests with real servers wait most of their time.
WORKERS ?= 3
# Beside the tests, which leave a quarter of two cores: twice as long for the requests that it sends alone.
BESIDE_SECONDS := 120
# Where bytecode is not kept, each of the hundreds of programs that tests start compiles all that it imports.
export PYTHONDONTWRITEBYTECODE :=

# One quick file of every folder of tests that needs a database or more.
SMOKE := tests/store/test_migrate.py tests/ingest/test_intake.py tests/usecases/test_fences.py tests/api/test_settings.py \
	tests/web/test_settings.py tests/out/test_language.py

.PHONY: help install setup setup-clients dev demo check test lint types contracts browser bytecode unit coverage bench simulate mutants conformance fuzz screenshots lock audit format package

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1|/' | column -t -s '|'

install: ## make .venv with what serves, and nothing else
	@$(PYTHON) tools/bootstrap.py --serving

setup: ## make .venv with everything that tests need too
	@$(PYTHON) tools/bootstrap.py

dev: setup ## setup, and git hooks that run format and lint before a commit and `make check` before a push
	@$(BIN)/prek install --quiet --hook-type pre-commit --hook-type pre-push

demo: install ## the main job, from nothing to an invoice
	@$(BIN)/permille demo

check: setup lint types contracts ## what can be known in a minute: format, lint, types, contracts, the core, a test of each folder
	@HYPOTHESIS_PROFILE=quick $(BIN)/pytest -n 2 -q tests/core $(SMOKE)

test: setup ## everything; this is what CI runs
	@$(MAKE) -j2 types lint contracts setup-clients browser bytecode
	@$(MAKE) -j2 unit fuzz SECONDS=$(BESIDE_SECONDS)
	@$(MAKE) conformance

lint: ## format and lint, without changing anything
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: ## strict types
	$(BIN)/mypy

contracts: ## which package may import which
	$(BIN)/lint-imports

browser:
	@$(PYTHON) tools/browser.py

bytecode: # of tests and of all that they import, so that not each worker of them makes its own at the same time
	@$(BIN)/pytest --collect-only -qq > /dev/null || true

setup-clients: setup ## the real clients of model providers that tests bill calls of, in an environment of their own
	@$(PYTHON) tools/bootstrap.py --clients

unit: browser setup-clients ## all tests
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -q

coverage: browser ## all tests, and how much of the source they run: at least the floor in pyproject.toml
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -q --cov --cov-report=term:skip-covered

bench: setup ## short forms of all benchmarks; fails where a ratio is below its floor (benchmarks/floors.toml); or: make bench ONLY="usage start"
	@$(BIN)/python -m benchmarks $(ONLY)

simulate: setup ## a simulated world again: make simulate SEED=7, or many: SEED=1-1000
	SEED=$(SEED) $(BIN)/pytest -q -s tests/simulation

mutants: ## faults that no test notices: make mutants MODULE=usecases/invoices/run.py SAMPLE=10; without MODULE all of the core
	$(BIN)/python tools/mutants.py $(if $(SAMPLE),--sample $(SAMPLE)) $(MODULE)

conformance: ## the black-box scenarios
	$(BIN)/python tools/conformance.py $(SHARED)/conformance

fuzz: ## requests that the OpenAPI document allows, and others, to a fresh server: make fuzz SECONDS=600
	$(BIN)/python -m tools.fuzz --seconds $(or $(SECONDS),60)

screenshots: setup browser
	$(BIN)/python tools/screenshots.py

format: ## mend format and lint where that can be
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

COMPILE = .tools/uv pip compile --quiet --generate-hashes --no-header --no-emit-index-url --python-version 3.11

lock: ## the lock files from pyproject.toml: what serves, and that with what tests need
	$(COMPILE) pyproject.toml -o requirements.lock
	$(COMPILE) --group dev --constraint requirements.lock pyproject.toml -o requirements-dev.lock
	printf 'manimgx-fonts\nmanimgx-fonts-cjk\n' | $(COMPILE) - -o requirements-fonts.lock
	$(COMPILE) requirements-clients.in -o requirements-clients.lock
	$(COMPILE) requirements-litellm.in -o requirements-litellm.lock
	printf 'uv\n' | $(COMPILE) --no-annotate - -o requirements-uv.lock

audit: setup ## compare the lock files with the advisories that are published
	@$(BIN)/python tools/audit.py

package: setup ## build the wheel, and try it in an environment that has nothing else
	$(PYTHON) tools/package.py
