# SPDX-License-Identifier: Apache-2.0
# `make demo` and `make test` set up everything they need by themselves.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
DEMO_IMAGES ?= 1000
# A pruned and shared network to start from, of models/ for instance; none: one is trained first.
DEMO_MODEL ?=

BOARDS := $(filter-out arty-a7,$(patsubst constraints/%.toml,%,$(wildcard constraints/*.toml)))

.PHONY: setup demo test smoke lint prepare docs boards clean
setup: $(READY)

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

lint: $(READY)
	$(VENV)/bin/ruff check --no-cache .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache

# What tests want and pip cannot bring: installed by root with apt, else named.
prepare: $(READY)
	.ci/prepare $(VENV)/bin/python

test: lint prepare
	$(VENV)/bin/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile

# As another user whose home cannot be written, in a path that shells and makefiles trip over, and from a wheel.
smoke:
	for kind in user path wheel; do .ci/smoke $$kind || exit 1; done

demo: $(READY)
	$(VENV)/bin/python -m host.demo --images $(DEMO_IMAGES) $(if $(DEMO_MODEL),--model $(DEMO_MODEL))

docs: $(READY)
	$(VENV)/bin/python -m mkdocs build --strict
	@echo build/docs/index.html

# One after another: placement takes minutes and a gigabyte for each. What did not change is not placed again.
boards: $(READY)
	for board in $(BOARDS); do $(VENV)/bin/python -m rtl.build --board $$board || exit 1; done

clean:
	rm -rf build
