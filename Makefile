# Executable documentation of the workflow. A fresh machine needs Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin
SHARED ?= ../shared

.PHONY: setup demo test lint types contracts browser unit conformance screenshots lock format

setup:
	@$(PYTHON) tools/bootstrap.py

demo: setup
	@$(BIN)/permille demo

test: setup lint types contracts unit conformance

lint:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types:
	$(BIN)/mypy

contracts:
	$(BIN)/lint-imports

browser:
	@$(PYTHON) tools/browser.py

unit: browser
	$(BIN)/pytest -n 2 -q

conformance:
	$(BIN)/python tools/conformance.py $(SHARED)/conformance

screenshots: setup browser
	$(BIN)/python tools/screenshots.py

format:
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock:
	.tools/uv pip compile --quiet --group dev --generate-hashes --no-header --no-emit-index-url --python-version 3.11 pyproject.toml -o requirements.lock
	printf 'manimgx-fonts\nmanimgx-fonts-cjk\n' | .tools/uv pip compile --quiet --generate-hashes --no-header --no-emit-index-url --python-version 3.11 - -o requirements-fonts.lock
