# Two commands do all the set-up in a fresh clone:
#     make demo [DATA=physionet]      the main job, from pretraining to a student
#     make test                       the test suite, offline, without the slow part
# Both create a virtual environment (.venv) once. PYTHON=... picks the interpreter.

VENV ?= .venv
DATA ?= simulated

# A virtual environment needs venv and ensurepip, which some systems leave out.
# 3.13, 3.12 and 3.11 come first: for them all dependencies have wheels.
FIT = import sys, venv, ensurepip; raise SystemExit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3 python; do \
	if $$python -c "$(FIT)" >/dev/null 2>&1; then echo $$python; break; fi; done)

PY = $(VENV)/bin/python
# MOABB asks its mirror first, even for files that are here, unless told not to;
# figures are written to files, never to a screen.
export MOABB_DOWNLOAD_PROVIDER ?= upstream
export MPLBACKEND ?= Agg

.PHONY: help install demo test test-all test-gallery docs docs-quick lint typecheck \
	benchmark bench-speed clean

help:
	@echo "make demo [DATA=simulated|physionet]  pretrain, teach, distil, compare: outputs/demo"
	@echo "make test          tests without the slow ones, with coverage"
	@echo "make test-all      all tests; the report goes to benchmarks/results/test_all.txt"
	@echo "make test-gallery  run every example as a script, with its time"
	@echo "make docs          the documentation, every example executed: docs/_build/html"
	@echo "make docs-quick    the same without executing the examples"
	@echo "make lint          ruff; make typecheck: mypy"
	@echo "make benchmark     a small part of the accuracy benchmark"
	@echo "make bench-speed   the speed table"
	@echo "make clean         remove what was built, the environment included"

# One stamp per set of extras; done again when the dependencies change.
$(VENV)/bin/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "No Python >= 3.11 with venv and ensurepip was found." >&2; \
		echo "Install one, or name one: make PYTHON=/path/to/python3.12 ..." >&2; \
		exit 1; \
	fi
	@"$(PYTHON)" -c "$(FIT)" || { \
		echo "$(PYTHON) cannot be used: Python >= 3.11 with venv and ensurepip is needed." >&2; \
		exit 1; }
	"$(PYTHON)" -m venv $(VENV)

$(VENV)/.installed-%: setup.cfg pyproject.toml | $(VENV)/bin/python
	@echo "Installing the package with extra [$*]: once, minutes, about 5 GB in all ..."
	$(PY) -m pip install --quiet -e ".[$*]"
	@touch $@

install: $(VENV)/.installed-tests

demo: $(VENV)/.installed-tests
	$(PY) benchmarks/demo.py --data $(DATA) --output outputs/demo

test: $(VENV)/.installed-tests
	$(PY) -m pytest -n 2 -m "not slow" --cov=braindecode_gcmae --cov-report=term \
		--durations=15

# The report keeps no path of the machine it was made on.
test-all: $(VENV)/.installed-tests
	@mkdir -p benchmarks/results
	bash -o pipefail -c '$(PY) -m pytest -n 2 --cov=braindecode_gcmae --cov-report=term \
		--durations=30 2>&1 | sed "s|$(CURDIR)|.|g; s|$$HOME|~|g; s|/tmp/[^ ]*|(temporary)|g" \
		| tee benchmarks/results/test_all.txt'

test-gallery: $(VENV)/.installed-tests
	@for example in examples/plot_*.py; do \
		start=$$(date +%s); $(PY) $$example >/dev/null || exit 1; \
		echo "$$example: $$(( $$(date +%s) - start )) s"; done

# A warning is an error, and so is an example that fails.
docs: $(VENV)/.installed-docs
	$(PY) -m sphinx -b html -W --keep-going docs docs/_build/html

docs-quick: $(VENV)/.installed-docs
	$(PY) -m sphinx -b html -W --keep-going -D plot_gallery=0 docs docs/_build/html

lint: $(VENV)/.installed-lint
	$(PY) -m ruff check .

typecheck: $(VENV)/.installed-lint
	$(PY) -m mypy

benchmark: $(VENV)/.installed-benchmarks
	$(PY) -m benchmarks.run --study quick

bench-speed: $(VENV)/.installed-benchmarks
	$(PY) -m benchmarks.speed

clean:
	rm -rf $(VENV) build dist *.egg-info outputs docs/_build docs/auto_examples \
		docs/generated docs/sg_execution_times.rst .pytest_cache .ruff_cache \
		.mypy_cache .hypothesis .coverage htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
