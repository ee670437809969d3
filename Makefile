# `make demo` and `make test` install what they need into .venv and redo only what is missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

SHARDS := data/glyphs
RUN := runs/glyphs
RANKS ?= 1

.PHONY: demo quick test lint types pytest benchmarks clean
.DELETE_ON_ERROR:

demo: $(RUN)/model.safetensors
	$(BIN)/ltrsys balance $(RUN)

# Two processes, for two cores; those that play several hosts, or take both cores themselves, come one by one.
IN_PARALLEL := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile
ONE_BY_ONE := distributed or slurm or netns

# What finds most mistakes within three minutes, on two cores.
quick: lint types
	$(IN_PARALLEL) -m "not (slow or long or $(ONE_BY_ONE))" $(PYTEST)

test: lint types pytest

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache

types: $(VENV)/.installed-dev
	$(BIN)/mypy

pytest: $(VENV)/.installed-dev
	$(IN_PARALLEL) -m "not (slow or $(ONE_BY_ONE))" $(PYTEST)
	$(BIN)/python -m pytest -m "not slow and ($(ONE_BY_ONE))" $(PYTEST)

benchmarks: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.plan
	$(BIN)/python -m benchmarks.mixing
	$(BIN)/python -m benchmarks.input
	$(BIN)/python -m benchmarks.augmentation
	$(BIN)/python -m benchmarks.feeding
	$(BIN)/python -m benchmarks.step
	$(BIN)/python -m benchmarks.precision
	$(BIN)/python -m benchmarks.losses
	$(BIN)/python -m benchmarks.freezing
	$(BIN)/python -m benchmarks.checkpoint
	$(BIN)/python -m benchmarks.scaling
	$(BIN)/python -m benchmarks.kernels
	$(BIN)/python -m benchmarks.bank
	$(BIN)/python -m benchmarks.predict
	$(BIN)/python -m benchmarks.serve

$(VENV)/.installed: setup.py constraints.txt ltrsys/__init__.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install --constraint constraints.txt --editable '.[dev]'
	touch $@

$(SHARDS)/dataset.json: | $(VENV)/.installed
	$(BIN)/ltrsys shards glyphs --out $(SHARDS)

# The model is written when training is complete; an interrupted run goes on from its last checkpoint.
$(RUN)/model.safetensors: $(SHARDS)/dataset.json | $(VENV)/.installed
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/deepspeed --num_gpus $(RANKS) launchers/train.py --config configs/glyphs/demo.yaml

clean:
	rm -rf $(RUN) $(SHARDS)
