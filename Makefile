# `make` alone lists what there is.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CYCLES ?= 10
ENGINE_POOL ?= 3# tests beside each other that wait for a Docker engine
POOL ?= 5# that wait for other programs
QUIET_POOL ?= 2# that measure time to a millisecond
RUN_OPTIONS ?= # such as --set proxy.resolvers.timeout_resolve=200ms

# Tests start hundreds of processes, none of which should compile all of chaosd anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo images swarm-box test test-fast test-long attack check lint bench lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: haproxy ## set up chaosd, and fetch a build of HAProxy if this machine has none
	@echo "chaosd is $(BIN)/chaosd; this makes it just chaosd: . $(BIN)/activate"

demo: $(VENV)/.installed ## set up what is needed and watch real failovers (CYCLES=10)
	@if $(BIN)/chaosd images --engine 2>/dev/null; then \
	  ./.ci/get-images $(BIN)/chaosd || echo "no images for Docker: going on without it"; fi
	@$(BIN)/chaosd demo --cycles $(CYCLES) $(RUN_OPTIONS)
	@echo "(chaosd is $(BIN)/chaosd here; . $(BIN)/activate makes it just chaosd)"

images: $(VENV)/.installed ## make the images for Docker: by a registry, or else of Debian's packages
	@./.ci/get-images $(BIN)/chaosd --all

swarm-box: $(VENV)/.installed ## a shell on a swarm of two engines on this machine, for runtime: swarm (root)
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python tests/docker/swarm_box.py $(ARGS)

test: $(VENV)/.dev haproxy ## all but the long tests; those that need what this machine lacks say so and are skipped
	@if $(BIN)/chaosd images --engine 2>/dev/null; then \
	  ./.ci/get-images $(BIN)/chaosd --all || echo "no images: tests on Docker are skipped"; fi
	@$(call phases,)

test-fast: $(VENV)/.dev ## only those that are pure or simulated (a minute or so on two cores)
	@$(BIN)/pytest -q $(COMPUTES) -m "not real and not chromium"

test-long: POOL = 2# what is slow computes, too
test-long: ENGINE_POOL = 1
test-long: $(VENV)/.dev haproxy ## what is slow, and all property tests and simulations in full size
	@$(call phases,--long)

# What computes has a worker per core. What waits for other programs has a wider pool; containers
# are waited for beside it, by fewer workers, as a Docker engine does work of its own. What measures
# time to a millisecond comes last, a few tests at once: they mostly wait. The last summary is of all.
COMPUTES = -n auto --dist loadgroup tests/unit tests/sim tests/contract tests/test_*.py
WAITS = tests/deploy tests/docker tests/contract tests/local
phases = tally=$$(mktemp -d); code=0; \
	run() { $(BIN)/pytest -q --tally "$$tally/reports" $(1) "$$@"; }; \
	run $(COMPUTES) -m "not real" || code=$$?; \
	run -n $(ENGINE_POOL) --dist loadgroup -m "docker and not quiet" $(WAITS) > "$$tally/docker" 2>&1 & \
	run -n $(POOL) --dist loadgroup -m "real and not docker and not quiet" $(WAITS) || code=$$?; \
	wait $$! || code=$$?; cat "$$tally/docker"; \
	run -n $(QUIET_POOL) --dist loadgroup -m quiet $(WAITS) || code=$$?; \
	rm -r "$$tally"; exit $$code

check: lint ## format, lint, types, and every example config
	@for config in configs/*.yaml; do $(BIN)/chaosd check -q $$config || exit; done

lint: $(VENV)/.dev
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy

attack: $(VENV)/.dev haproxy ## all that was ever tried to make chaosd fall over, or say what is false (an hour)
	@$(BIN)/python tests/attack/all.py

bench: $(VENV)/.dev haproxy ## what probes and failovers cost beside httpx, wrk and bare docker, in one run (7 min)
	@$(BIN)/python tests/bench/probes.py
	@$(BIN)/python tests/bench/store.py
	@$(BIN)/python tests/bench/failovers.py
	@$(BIN)/python tests/bench/bare_docker.py

lock: $(VENV)/.dev ## write constraints.txt anew from what is installed
	@$(BIN)/pip freeze --exclude-editable | grep -v '^chaosd' > constraints.txt

clean: ## remove what any run left behind, and the virtual environment
	@[ ! -x $(BIN)/chaosd ] || $(BIN)/chaosd clean || echo "(going on)"
	@rm -rf $(VENV)

.PHONY: haproxy
haproxy: $(VENV)/.installed
	@command -v haproxy >/dev/null || [ -x /usr/sbin/haproxy ] || $(BIN)/chaosd haproxy install

PIP = $(BIN)/pip install -q --disable-pip-version-check -c constraints.txt

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "make: $(PYTHON) is older than 3.11 (name another: make PYTHON=python3.12 …)" >&2; exit 3; }
	@echo "setting up $(VENV) (once)"
	@$(PYTHON) -m venv $(VENV) \
	  || { echo "make: $(PYTHON) has no venv (Debian, Ubuntu: apt install python3-venv)" >&2; exit 3; }
	@$(PIP) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	@echo "adding the development tools (once)"
	@$(PIP) -e '.[dev]'
	@touch $@
