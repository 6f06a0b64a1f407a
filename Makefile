# make env    a virtual environment with phai_cctbx, cctbx and every extra
# make solve  solve the measured thpp data that cctbx installs, into results/thpp
# make test   run all tests
# make lint   run ruff
# make docs   build the documentation into docs/_build
#
# Packages come from wherever pip is configured to look.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
TORCH ?= torch==2.13.0
# As many at a time as there are cores, the tests of a file on one of them.
PYTEST_ARGS ?= -n auto --dist loadfile

BIN := $(abspath $(VENV))/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help env solve test lint docs clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

env: $(INSTALLED)

# The stamp is written last: a set-up that was cut off is taken up again.
$(INSTALLED): pyproject.toml setup.py libtbx_config
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install "$(TORCH)"
	$(BIN)/python -m pip install --editable ".[all]" "$(TORCH)"
	$(BIN)/phai_cctbx.version
	touch $@

solve: env
	mkdir -p results/thpp
	cd results/thpp && $(BIN)/phai_cctbx.solve overwrite=True \
	  "$$($(BIN)/python -c 'import smtbx; print(smtbx.__path__[0])')/regression/test_data/thpp.ins"
	@echo "The results of thpp lie in $(CURDIR)/results/thpp:"
	@ls results/thpp

test: env
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: env
	$(BIN)/ruff check .

docs: env
	$(BIN)/python -m sphinx --fail-on-warning -q docs docs/_build

clean:
	rm -rf build docs/_build *.egg-info .pytest_cache .ruff_cache
