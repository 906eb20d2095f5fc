# Everything a newcomer needs, from a bare checkout with python3 (3.11 or newer) and make.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
MATCH ?= domain
FROM ?=
TO ?=

# Compiled once, out of the tree, whatever the environment says: every process here is one of many,
# and compiling what it imports would be most of its start.
export PYTHONDONTWRITEBYTECODE :=
export PYTHONPYCACHEPREFIX := $(CURDIR)/.venv/pycache
# see requirements.txt
export URLLIB3_NO_OVERRIDE := 1

.PHONY: help demo run up down monitor doctor compose-up check test faults lint benchmark performance-test performance-test-load dashboards clean
.DEFAULT_GOAL := help

help: ## List what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 25

demo: $(READY) ## Run the whole path on a small archive that comes with the project, then stop it
	@$(BIN)/chrono demo

run: $(READY) ## The real thing: make run URL=iana.org FROM=2012 TO=2014
	@test -n "$(URL)" || { echo "Say which site: make run URL=iana.org FROM=2012 TO=2014" >&2; exit 2; }
	@$(BIN)/chrono run "$(URL)" --match "$(MATCH)" --from "$(FROM)" --to "$(TO)"

up: $(READY) ## Start everything on this machine and leave it running
	@$(BIN)/chrono up

down: $(READY) ## Drain and stop it
	@$(BIN)/chrono down

monitor: $(READY) ## Watch how it is doing, until q; what is wrong: make doctor
	@$(BIN)/chrono top

doctor: $(READY) ## What is wrong here, why, and what to do about it
	@$(BIN)/chrono doctor

dashboards: $(READY) ## Build the boards and alert rules anew from dashboards/*.py
	@$(BIN)/python -m dashboards.build

compose-up: ## Production on this machine with Docker: secrets made once, then all of compose.yaml
	@found=$$(docker compose version --short 2>/dev/null | sed 's/^v//'); \
		test -n "$$found" || { echo "Docker with Compose 2.24 or newer is not here: https://docs.docker.com/engine/install (without it: make up)" >&2; exit 1; }; \
		printf '%s\n' 2.24 "$$found" | sort -VC || { echo "Docker Compose $$found is too old, 2.24 or newer is needed: https://docs.docker.com/compose/install (without it: make up)" >&2; exit 1; }
	@deploy/compose/secrets.sh
	docker compose up --detach --build --wait head
	docker compose up --detach
	docker compose exec -T head chrono up

lint: $(READY) ## Style, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Three workers on two cores: most tests wait for something now and then.
PYTEST := $(BIN)/python -m pytest -q -n 3 --dist worksteal
# Under a minute and a half; what needs a record of its own for each test is left to `make test`.
QUICK := archives cache extraction search
check: lint ## The inner loop: lint, unit tests, and the parts whose own tests are quick
	$(PYTEST) tests/unit $(QUICK:%=tests/integration/%)

# A test that fails is tried once more, and named in the summary: real servers share two cores.
test: lint ## Everything, on real parts: Ray clusters and faults too
	$(PYTEST) --reruns 1 -rR tests/unit tests/integration
	$(BIN)/python -m pytest -q -n 3 --dist loadscope --no-loadscope-reorder --reruns 1 -rR \
		tests/cluster tests/faults

SEEDS ?= 3
REPORT ?= faults.md
faults: $(READY) ## Every fault so many times, a row for each: make faults SEEDS=3 REPORT=faults.md
	CHRONO_TEST_FAULT_SEEDS=$(SEEDS) CHRONO_TEST_FAULT_REPORT="$(abspath $(REPORT))" \
		$(BIN)/python -m pytest -q -n 2 --dist loadscope --no-loadscope-reorder \
		tests/faults tests/cluster

benchmark: $(READY) ## Measure a scraper beside Scrapy, a listing of a million rows, and the claim
	$(BIN)/python -m benchmarks.scrape
	$(BIN)/python -m benchmarks.listing
	$(BIN)/python -m benchmarks.claim

performance-test: $(READY) ## Measure a private instance against the targets: a table, and performance.html
	$(BIN)/chrono perf --own --html performance.html

performance-test-load: $(READY) ## 200 users by locust, of an instance that runs here or a private one
	$(BIN)/python -m benchmarks.load

clean: ## Remove the environment and caches
	rm -rf .venv .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# uv where it can be had (seconds), pip where it cannot (a minute). Pinned versions, no index named.
$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "chrono_ray needs Python 3.11 or newer; say which: make PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing the environment ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv 2>/dev/null \
		&& $(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.txt \
		&& $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e . \
		|| { $(BIN)/python -m pip install --quiet -r requirements.txt && $(BIN)/python -m pip install --quiet --no-deps -e .; }
	@touch $@
