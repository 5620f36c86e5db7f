# What people and CI run; `make` alone lists it. It takes make and Python 3.11 to 3.13; everything else goes into .venv.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

PYTHON ?= python3
JOB ?= examples/flights/job.yaml
VENV := .venv
BIN := $(VENV)/bin
# One environment, filled in two steps: `make run` need not wait for the linters.
RUNTIME := $(VENV)/.runtime-installed
DEV := $(VENV)/.dev-installed
INSTALL := $(BIN)/python scripts/install.py --quiet
# UPGRADE=1: the newest versions; otherwise what is locked stays as long as pyproject.toml allows it.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header

.PHONY: help run setup test unit lint format tools kind kind-delete images images-ml load demo lock examples docs pictures bench bench-startup bench-many-jobs bench-workloads hooks clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

run: $(RUNTIME)  ## Train the flights example on this machine (FULL=1: on every row; JOB=file: another job)
	@$(BIN)/dask-training run "$(JOB)" $(if $(FULL),-- --full)

setup: $(DEV)  ## Make .venv with all that development needs; a second time only what changed

test: lint  ## Lint, then run all tests in two streams, one of them on a kind cluster: what CI runs
	@$(BIN)/python -m pytest -n 2

unit: $(DEV)  ## Run the fast tests alone, which need no Docker, several at once: half of their time they wait
	@images/kind-node/tools.sh helm versitygw
	@$(BIN)/python -m pytest -n 5 --dist loadfile tests/unit tests/chart

lint: $(DEV)  ## Check style, types, import order, spelling, YAML
	@$(BIN)/ruff check && $(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/codespell
	@$(BIN)/yamllint --strict .

format: $(DEV)  ## Put the code into the project's style
	@$(BIN)/ruff check --fix-only --exit-zero && $(BIN)/ruff format

tools: $(BIN)/python  ## Make kind, kubectl, helm and versitygw in .cache/tools/bin (the first time three minutes)
	@images/kind-node/tools.sh

kind: $(BIN)/python  ## Make the kind cluster dask-training; needs no container registry (the first time six minutes)
	@images/kind-node/cluster.sh create

kind-delete:  ## Remove that cluster and all that belongs to it; built images stay as a cache
	@images/kind-node/cluster.sh delete

images: $(BIN)/python  ## Build the images of operator, runtime and store
	@images/build.sh

images-ml: $(BIN)/python  ## Build the runtime image with dask-ml, pyarrow and xgboost
	@images/build.sh runtime-ml

load:  ## Bring images that have changed into the kind cluster
	@images/kind-node/cluster.sh load $(addprefix dask-training-,$(addsuffix :dev,operator runtime store))

demo: $(DEV) kind images load  ## Train the flights example on the kind cluster, from helm install to what is kept and what is left
	@scripts/demo.sh

lock: $(DEV)  ## Make the locks again after a change of pyproject.toml (UPGRADE=1: with the newest versions)
	@$(COMPILE) $(if $(UPGRADE),--upgrade) pyproject.toml --extra runtime --extra operator --extra client --extra s3 --extra ml --group dev -o locks/dev.txt
	@for each in build install; do $(COMPILE) -c locks/dev.txt --group $$each -o locks/$$each.txt || exit 1; done
	@$(COMPILE) -c locks/dev.txt pyproject.toml --extra runtime --extra client --extra s3 -o locks/runtime.txt
	@$(COMPILE) -c locks/runtime.txt pyproject.toml --extra runtime --extra client --extra s3 --extra ml -o locks/runtime-ml.txt
	@for each in operator client; do $(COMPILE) -c locks/dev.txt pyproject.toml --extra $$each -o locks/$$each.txt || exit 1; done

examples: $(DEV)  ## Copy each example's train.py into its job.yaml
	@$(BIN)/python examples/sync.py

docs: $(DEV)  ## Make the tables of docs/ that are made from code
	@$(BIN)/python docs/reference/make.py
	@$(BIN)/python docs/reference/charts.py

pictures: $(DEV)  ## Make the README's pictures from a real run
	@$(BIN)/python docs/pictures/make.py

bench: $(DEV)  ## Measure the joblib backend against others
	@$(BIN)/python -m bench.joblib_backend

bench-startup: $(DEV)  ## Measure start and end of a job against dask-kubernetes', on the kind cluster with the operator
	@$(BIN)/python -m bench.startup --trace --docs

bench-many-jobs: $(DEV)  ## Measure the operator with a thousand jobs at once, on the kind cluster with the operator
	@$(BIN)/python -m bench.many_jobs --docs

bench-workloads: $(DEV)  ## Measure the blogs' workloads with and without Dask
	@$(BIN)/python -m bench.workloads --docs

hooks: $(DEV)  ## Lint at each commit
	@$(BIN)/pre-commit install

clean:  ## Remove .venv and all caches; artifacts of runs stay
	@rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "This needs Python 3.11, 3.12 or 3.13, and '$(PYTHON)' is not that. Name one that is: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' || { \
	  echo "'$(PYTHON)' has no venv module with pip. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@rm -rf $(VENV) && "$(PYTHON)" -m venv $(VENV)

$(RUNTIME): locks/install.txt locks/build.txt locks/runtime.txt locks/client.txt pyproject.toml $(BIN)/python
	@echo "Installing what running jobs takes into $(VENV) (the first time half a minute or so) ..."
	@$(INSTALL) --require-hashes -r locks/build.txt -r locks/runtime.txt -r locks/client.txt
	@$(INSTALL) --no-build-isolation --no-deps --editable .
	@touch $@

$(DEV): locks/install.txt locks/dev.txt pyproject.toml $(BIN)/python
	@echo "Installing what development takes into $(VENV) (the first time half a minute or so) ..."
	@$(INSTALL) --require-hashes -r locks/dev.txt
	@$(INSTALL) --no-build-isolation --no-deps --editable .
	@touch $(RUNTIME) $@
