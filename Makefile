# The two commands of a newcomer: `make demo` and `make test`. Both do the set-up first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: help setup demo test test-slow lint format bench clean

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

setup: $(INSTALLED) ## create .venv and install the package with everything the tests need

# Debian and Ubuntu split `venv` off python3: install it where we may, say so where we may not.
$(INSTALLED): setup.py pyproject.toml
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq python3-venv; } || \
	  { echo "python3-venv is missing: run 'sudo apt-get install python3-venv' and try again" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -e '.[train,dev]'
	@touch $@

demo: setup ## train a ternary net on scikit-learn's digits, export it, print the report
	rm -rf runs/demo
	$(BIN)/python -m ec2t_tf.train --dataset=digits --model=resnet8 --float_epochs=20 --epochs=20 --centroid_scale=0.4 \
	  --output_dir=runs/demo

test: setup ## all tests but the slow ones
	$(BIN)/python -m pytest

test-slow: setup ## the slow tests
	$(BIN)/python -m pytest -m slow

lint: setup ## ruff, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy ec2t_tf train export

format: setup ## rewrite the sources in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## time per training step against tfmot's own quantize_model
	$(BIN)/python -m tests.bench.training_step

clean: ## remove what the targets above made
	rm -rf $(VENV) runs build dist *.egg-info
