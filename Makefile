# One command for each thing one does with this project; `make` alone lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

# Words to add to a command: make test ARGS="-k status", make demo ARGS="--images 2000"
ARGS ?=
# Processes that share the tests, each with servers of its own.
TEST_PROCESSES ?= 2

# The tests start some hundred processes; each would compile every module anew.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help install install-dev demo run test coverage bench hosts fuzz hostile chaos soak advisories lock screenshots settings clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: install ## try it all: start the service, submit a job of sample photos, show the results, end
	@$(BIN)/python -m demo $(ARGS)

run: install ## the service at http://localhost:5000 (PORT=...), until Ctrl-C
	@$(BIN)/imagejobs run --with-parent --sample $(ARGS)

test: install-dev ## linters, types, import rules and every test, on real MariaDB and Redis
	@testbed/install.sh
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest --numprocesses $(TEST_PROCESSES) --dist loadfile $(ARGS)

coverage: install-dev ## how much of the code the tests run through, worker and web processes too: build/coverage.txt
	@testbed/install.sh
	@mkdir -p build
	$(BIN)/coverage run -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile $(ARGS)
	@$(BIN)/coverage combine --quiet
	$(BIN)/coverage report > build/coverage.txt
	@tail -n 1 build/coverage.txt

bench: install-dev ## measure images a second against a plain loop and the bare limit
	@testbed/install.sh
	$(BIN)/python -m bench $(ARGS)

hosts: install-dev ## one, two, three worker hosts, as network namespaces of this machine: how the rate grows (needs root)
	@testbed/install.sh
	$(BIN)/python -m bench.hosts $(ARGS)

chaos: install-dev ## kill, freeze and cut off the parts of the service during a job, then check its books (SEED=... SEEDS=...)
	@testbed/install.sh
	$(BIN)/python -m chaos

soak: install-dev ## an hour at half load behind nginx with a fault a minute: build/soak.svg (MINUTES=, RATE=)
	@testbed/install.sh
	$(BIN)/python -m soak

hostile: install-dev ## Pillow's own test images, PngSuite and 2,000 mutants through a real worker
	@$(BIN)/python -m tests.hostile $(ARGS)

fuzz: install-dev ## 20,000 requests made from the OpenAPI document: every answer must be as it says
	@$(BIN)/python -m tests.fuzz $(ARGS)

install: $(VENV)/installed ## the virtual environment with the packages that run in production

install-dev: $(VENV)/installed-dev ## ... and those of the tests and linters

advisories: install-dev ## ask PyPI's database of advisories about the pinned packages
	@$(PIP) install pip-audit
	$(BIN)/pip-audit --strict --disable-pip --no-deps --requirement requirements.txt

lock: install-dev ## pin the versions of requirements*.in anew
	$(BIN)/uv pip compile --quiet --upgrade --universal --no-header --python-version 3.11 \
		--output-file requirements.txt requirements.in
	$(BIN)/uv pip compile --quiet --upgrade --universal --no-header --python-version 3.11 \
		--output-file requirements-dev.txt requirements-dev.in
	$(BIN)/uv pip compile --quiet --upgrade --universal --no-header --python-version 3.11 \
		--output-file deploy/flower.txt deploy/flower.in

screenshots: install-dev ## take the pictures of the pages in docs/images anew
	@testbed/install.sh
	$(BIN)/python -m tests.browser.screenshots

settings: install-dev ## write the README's table of settings from config.py
	$(BIN)/python -m tests.unit.test_readme

clean: ## remove what the commands above made, except the service's data in var/
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps are files in the virtual environment, so that they go with it.

$(VENV)/installed: requirements.txt pyproject.toml | $(BIN)/pip
	@echo "Installing packages into $(VENV) ..."
	@$(PIP) install -r requirements.txt
	@$(PIP) install --no-deps --editable .
	@touch $@

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	@echo "Installing the packages of the tests ..."
	@$(PIP) install -r requirements-dev.txt
	@touch $@

$(BIN)/pip:
	@deploy/venv.sh $(PYTHON) $(VENV)
