# `make demo` and `make test` do all set-up themselves on a bare machine and skip it when it is done.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# Without an NVIDIA driver this exact torch comes first: other versions pull gigabytes of CUDA packages.
CPU_TORCH := torch==2.13.0

.PHONY: demo test lint unit stress docs setup clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip==26.3  # the first pip to know --group is 25.1
	command -v nvidia-smi >/dev/null 2>&1 || $(BIN)/python -m pip install --quiet --disable-pip-version-check $(CPU_TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group dev --editable '.[video,train,serve,telemetry]'
	touch $@

demo: setup
	$(BIN)/python examples/demo.py

test: lint unit

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

unit: setup
	# One thread and a process a core: beside any other busy process, parallel torch on few cores is many times slower.
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist worksteal

# 40 minutes by default (FOVEATE_STRESS_SECONDS sets each part); FOVEATE_SOAK_OUTPUT=FILE and FOVEATE_MIXED_OUTPUT=FILE
# keep the server's figures.
stress: setup  # random arrivals and aborts in the engine, bad clients and everything at once at the server, known attacks
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'stress or not stress' \
		tests/engine/test_engine_stateful.py tests/engine/test_engine_drafts.py tests/serve/test_serve_soak.py \
		tests/serve/test_serve_mixed.py tests/serve/test_serve_safety*.py

docs: setup  # tables from code and result files, pictures from the model
	$(BIN)/python docs/pictures.py
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
