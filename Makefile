# make demo: set up and run the main job on the embedded demo set.   make test: set up and pass the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNS := $(VENV)/.runs
READY := $(VENV)/.ready
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test check setup format clean

demo: $(RUNS)
	$(BIN)/python run.py --config configs/demo.yaml

test: $(READY)
	$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup: $(READY)

# what the project runs with
$(RUNS): requirements.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed; set PYTHON=python3.11"'
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -r requirements.txt
	touch $(RUNS)

# what checks and tests need besides
$(READY): $(RUNS) requirements-dev.txt
	$(INSTALL) -r requirements-dev.txt
	touch $(READY)

clean:
	rm -rf site data/demo data/demo_region models/demo output/demo
