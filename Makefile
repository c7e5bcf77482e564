# Two commands: `make gate` and `make test`. Each does everything that a new machine needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: gate test lint software-gpu adb install clean
.DEFAULT_GOAL := help

help:
	@echo "make gate          judge the built-in PE-Core B/16 conversion, on the CPU and the GPU"
	@echo "make test          lint, types and the whole test suite"
	@echo "make software-gpu  a Vulkan driver with fp16 compute, if there is none yet"
	@echo "make adb           Android's adb client and, for the tests, its daemon"
	@echo "make clean         remove the environment"

$(STAMP): pyproject.toml constraints.txt setup.py $(wildcard fidelity/arithmetic/*.[ch] fidelity/devices/runner/*.[ch]) fidelity/devices/runner_sources.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

install: $(STAMP)

software-gpu: $(STAMP)
	$(BIN)/python -m fidelity.devices.install_software_gpu

adb: $(STAMP)
	$(BIN)/python -m fidelity.devices.install_adb

gate: software-gpu
	$(BIN)/fidelity gate

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: software-gpu adb lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

clean:
	rm -rf $(VENV)
