# SPDX-License-Identifier: Apache-2.0
# `make demo` and `make test` set up everything they need by themselves.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
DEMO_IMAGES ?= 1000

.PHONY: setup demo test lint clean
setup: $(READY)

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

test: lint
	$(VENV)/bin/python -m pytest

demo: $(READY)
	$(VENV)/bin/python -m host.demo --images $(DEMO_IMAGES)

clean:
	rm -rf build
