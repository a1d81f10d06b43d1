# Everything runs in .venv, made on first use. PYTHON picks the interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH ?= torch==2.13.0

.PHONY: demo test test-all test-gpu soak coverage lint bench bench-psf bench-gpu clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "setuptools>=77" wheel
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[all,test]"
	touch $@

demo: $(VENV)/.installed
	$(BIN)/simscope demo --out demo --force

test: $(VENV)/.installed
	$(BIN)/python -m pytest -q -m "not slow and not gpu"

test-all: $(VENV)/.installed
	$(BIN)/python -m pytest -q -m "not gpu"

# A quarter of an hour of kills, lost workers, a full disk and a million frames.
soak: $(VENV)/.installed
	$(BIN)/python tests/soak.py

# Both need a GPU and the packages of docs/gpu.md, and say so where there is none.
test-gpu: $(VENV)/.installed
	$(BIN)/python -m pytest -q -rs -s -m gpu

bench-gpu: $(VENV)/.installed
	$(BIN)/python benchmarks/bench_gpu.py

coverage: $(VENV)/.installed
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest -q -m "not slow and not gpu" \
		--cov=simscope --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=90

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/run.py --picture

bench-psf: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[peers]"
	$(BIN)/python benchmarks/bench_psf.py

clean:
	rm -rf $(VENV) build dist *.egg-info demo runs .pytest_cache .mypy_cache .ruff_cache
