# `make` lists the targets. Everything is set up by the targets that need it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CLANG ?= clang
BPF_FLAGS := -g -O2 -target bpf -mcpu=v3 -Wall -Wextra -Werror -Wno-unused-parameter -I/usr/include/$(shell uname -m)-linux-gnu -Ibpf
BPF_OBJECTS := $(patsubst %.c,%.o,$(wildcard bpf/*.bpf.c benchmarks/*/*.bpf.c))

.DEFAULT_GOAL := help
MINUTES ?= 110
S3_SERVER := build/s3/bin/moto_server
.PHONY: help dev demo test test-kernels check bench closed-loop bpf golden clean packages wrk constraints

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

dev: bpf $(VENV)/ready ## Make .venv with headroom and its tools

demo: packages dev ## Real servers, real load, the real agent: see demo/report.html
	$(BIN)/headroom demo --out demo

test: packages dev $(S3_SERVER) ## Set everything up and run all tests
	@deploy/install-packages.sh prometheus nghttp2-client nghttp2-server curl apache2-bin apache2-utils nodejs chromium
	@deploy/install-helm.sh
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

test-kernels: packages dev ## Count exactly under other kernels, in emulated VMs (KERNELS="6.1 6.12 newest")
	@deploy/install-packages.sh qemu-system-x86 busybox-static kmod xz-utils zstd
	$(BIN)/python -m tests.kernels $(KERNELS)

check: dev $(S3_SERVER) ## What CI runs: format, lint, types, layers, docs, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --config setup.cfg
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

bench: packages dev wrk ## Measure cost and exactness; writes benchmarks/results.json
	@deploy/install-packages.sh chromium
	$(BIN)/pip install --quiet --editable '.[bench]' --constraint constraints.txt
	$(BIN)/python -m benchmarks

closed-loop: packages dev ## Real servers under real CPU limits; goes on where it stopped (MINUTES=110)
	@deploy/install-packages.sh postgresql postgresql-contrib redis-server nodejs nginx-light
	$(BIN)/python -m benchmarks.closed_loop record --minutes $(MINUTES)
	$(BIN)/python -m benchmarks.closed_loop evaluate

bpf: packages $(BPF_OBJECTS) ## Compile the kernel programs

golden: dev ## Rewrite the golden files, on purpose
	$(BIN)/python -m pytest -q tests --golden

packages: ## Install the system packages that are missing (apt)
	@deploy/install-packages.sh

wrk:
	@deploy/install-packages.sh wrk nghttp2-client nghttp2-server

constraints: ## Refresh constraints.txt: the newest versions that pass
	rm -rf build/constraints && $(PYTHON) -m venv build/constraints
	build/constraints/bin/pip install --quiet '.[dev,cluster]'
	build/constraints/bin/pip freeze --exclude headroom > constraints.txt

clean: ## Remove what the targets made
	rm -rf $(VENV) build demo $(BPF_OBJECTS) *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# What speaks S3 to the tests needs other versions of our libraries than we do.
$(S3_SERVER):
	$(PYTHON) -m venv build/s3
	build/s3/bin/pip install --quiet 'moto[s3]==5.2.5' flask flask-cors

# Without clang the demo still replays its recording; `headroom doctor` says what is missing.
%.bpf.o: %.bpf.c $(wildcard bpf/*.h)
	@command -v $(CLANG) >/dev/null || { echo "$(CLANG) is not installed: $@ is not compiled" >&2; exit 0; }; \
	$(CLANG) $(BPF_FLAGS) -c $< -o $@

$(VENV)/ready: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("headroom needs Python 3.11 or later; try: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev,cluster]' --constraint constraints.txt
	touch $@
