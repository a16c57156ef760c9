# The two commands of a newcomer: `make demo` and `make test`. Both do the set-up first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help setup system demo test coverage test-slow lint docs format bench bench-mcu bench-boards bench-ethos test-tflm clean

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

setup: $(INSTALLED) ## create .venv and install the package with everything the tests need

# Debian and Ubuntu split `venv` off python3: install it where we may, say so where we may not.
$(INSTALLED): setup.py pyproject.toml
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq python3-venv; } || \
	  { echo "python3-venv is missing: run 'sudo apt-get install python3-venv' and try again" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -e '.[train,dev,docs]'
	@touch $@

# Float net, ternary net at 80 % zeros, int8 file, packed file, C for a Cortex-M4, counted where QEMU is.
demo: setup ## train a ternary net on scikit-learn's digits, export it in every way, write a report
	rm -rf runs/demo
	$(BIN)/ec2t train --dataset=digits --model=resnet8 --float_epochs=20 --epochs=30 \
	  --target_sparsity=0.8 --distill=0.5 --batch_size=64 --output_dir=runs/demo
	@echo; echo "The same net, packed:"
	$(BIN)/ec2t rewrite runs/demo/model.tflite --format=packed --output=runs/demo/packed.tflite
	$(BIN)/ec2t verify runs/demo/model.keras runs/demo/model.tflite runs/demo/packed.tflite
	@echo; echo "The same net as C for a Cortex-M4:"
	$(BIN)/ec2t rewrite runs/demo/model.tflite --format=c --core=m4 --output=runs/demo/model_c
	@echo; echo "Beside the int8 net of the same architecture, without training for it; C counted in QEMU:"
	$(BIN)/ec2t report runs/demo/float_int8.tflite runs/demo/model.tflite runs/demo/packed.tflite \
	  --compare --cores=m4 --measure --html=runs/demo/comparison.html
	@echo; echo "All of it to look at: runs/demo/report.html"

# Compilers and emulators of the C tests. Without them those tests skip and name what is missing.
SYSTEM_PACKAGES := cmake gcc libc6-dev clang gcc-arm-none-eabi qemu-system-arm qemu-user \
  gcc-riscv64-unknown-elf qemu-system-misc \
  gcc-aarch64-linux-gnu libc6-dev-arm64-cross chromium chromium-driver
SYSTEM_TOOLS := cmake gcc clang arm-none-eabi-gcc qemu-system-arm riscv64-unknown-elf-gcc \
  qemu-system-riscv32 qemu-aarch64 aarch64-linux-gnu-gcc \
  chromium chromedriver
system:
	@for tool in $(SYSTEM_TOOLS); do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq; apt-get install -y -qq --no-install-recommends $(SYSTEM_PACKAGES) || \
	      for package in $(SYSTEM_PACKAGES); do \
	        apt-get install -y -qq --no-install-recommends $$package; done; \
	  fi || true; \
	  for tool in $(SYSTEM_TOOLS); do command -v $$tool >/dev/null || \
	    echo "$$tool is missing: its tests will skip (apt-get install $(SYSTEM_PACKAGES))"; done; \
	fi

test: setup system ## all tests but the slow ones; COVERAGE=1 holds the floor of pyproject.toml
	$(BIN)/python -m pytest -n 2 --dist loadfile $(if $(COVERAGE),--cov --cov-report=term --cov-report=html:build/coverage)

coverage: ## the same tests with COVERAGE=1
	$(MAKE) test COVERAGE=1

test-slow: setup ## the slow tests
	$(BIN)/python -m pytest -m slow

lint: setup ## ruff, mypy, clang-format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m tests.type_check
	git ls-files '*.c' '*.h' '*.cc' | xargs $(BIN)/clang-format --dry-run -Werror

docs: setup ## the documentation site, into build/site; strict, without network
	$(BIN)/python -m tests.generated_pages
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

format: setup ## rewrite the sources in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	git ls-files '*.c' '*.h' '*.cc' | xargs $(BIN)/clang-format -i

bench: setup ## training step against tfmot's; our runtime against XNNPACK's; start of the commands
	$(BIN)/python -m tests.bench.training_step
	$(BIN)/python -m tests.bench.runtime
	$(BIN)/python -m tests.bench.apply_resnet50
	$(BIN)/python -m tests.bench.file_side
	$(BIN)/python -m tests.bench.command_line

bench-mcu: setup ## instructions, flash and RAM on Cortex-M in QEMU against CMSIS-NN: docs/mcu.md
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off bakenn
	$(BIN)/python -m tests.bench.mcu --write

bench-boards: setup ## estimates beside QEMU's counts; MODELS=folder also beside published figures
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off bakenn
	$(BIN)/python -m tests.bench.mcu_costs --write
	$(BIN)/python -m tests.bench.mcu_estimates --write $(if $(MODELS),--models=$(MODELS))

bench-ethos: setup ## what Arm's Vela makes of the int8 files for an Ethos-U55: docs/mcu.md
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off ethos-u-vela
	$(BIN)/python -m tests.bench.ethos_u

test-tflm: ## compile the operators against a TensorFlow Lite Micro checkout: TFLM_DIR=...
	@test -n "$(TFLM_DIR)" || { echo "TFLM_DIR is missing: make test-tflm TFLM_DIR=/path/to/tflite-micro" >&2; exit 1; }
	$(CXX) -std=c++17 -fsyntax-only -Wall -Wextra -DTF_LITE_STATIC_MEMORY $(TFLM_FLAGS) \
	  -I$(TFLM_DIR) -Iexport/kernels/include -Iexport/tflm export/tflm/adapter.cc

clean: ## remove what the targets above made
	rm -rf $(VENV) runs build dist *.egg-info
