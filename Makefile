# `make search` and `make test` need Python >= 3.10 with pip and its headers, and a C++20 compiler; the rest comes from PyPI.
PYTHON ?= python3
CXX ?= c++
VENV := .venv
BIN := $(VENV)/bin
# What the compiled core is made from: a change in it installs anew, a change in Python files is live at once.
CORE := pyproject.toml constraints.txt CMakeLists.txt $(wildcard csrc/* bindings/*.cpp bindings/*.hpp)
CLANGXX ?= clang++
# For `make fuzz`, on each kind of input.
SECONDS ?= 600
# For `make soak`.
MINUTES ?= 120
# Python itself is not sanitized: the library must come before everything else. What Python never frees is no leak of ours.
ASAN = $(shell $(CXX) -print-file-name=libasan.so)
SANITIZE_ENV = ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1
# mypy does not follow the import hook of an editable install, so it gets the package's layout as links.
TYPES := build/types/ncode_search

.DEFAULT_GOAL := help
.PHONY: help search test lint types unit quick faults soak sanitize fuzz fuzz-core fuzz-inputs bench format clean

help: ## Show this
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

search: $(VENV)/.search ## Install what is missing and run the example search; again: resume it
	@$(BIN)/ncode run examples/digits_cnn.toml

# The soak sleeps most of the time, so it runs beside types and sanitizers, with its report in one piece.
test: lint unit ## Everything that CI runs: lint, tests, types, the core's tests under sanitizers, a short soak
	@$(MAKE) --no-print-directory -j2 soak types sanitize MINUTES=5

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test
	@rm -rf $(TYPES) && mkdir -p $(TYPES)
	@ln -s ../../../agent ../../../evaluators ../../../bindings/__init__.py ../../../bindings/_core.pyi \
		../../../bindings/py.typed $(TYPES)/
	MYPYPATH=build/types $(BIN)/mypy -p ncode_search
	MYPYPATH=build/types $(BIN)/mypy --explicit-package-bases tests benchmarks examples

# Two processes: most tests wait for others, or for the disk.
unit: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist loadfile

quick: $(VENV)/.test ## The tests that take no more than a second or two each: two to three minutes in all
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

faults: $(VENV)/.test ## Hurt searches in every way for a quarter of an hour, as docs/unattended.md says
	NCODE_FAULTS_LONG=1 $(BIN)/python -m pytest tests/faults

soak: $(VENV)/.test ## Hurt one search for MINUTES (120), and judge it; the report is in build/soak.txt, too
	@mkdir -p build
	$(BIN)/python -m tests.soak --minutes $(MINUTES) --report build/soak.txt

sanitize: build/sanitized/.built ## Test the core under the address and undefined-behaviour sanitizers
	$(SANITIZE_ENV) build/sanitize/tests/fuzz/fuzz_codes tests/fuzz/corpus 2>build/sanitized/replay.log || { tail -40 build/sanitized/replay.log >&2; exit 1; }
	NCODE_CORE=$$(echo build/sanitized/ncode_search/_core*.so) $(SANITIZE_ENV) LD_PRELOAD="$(ASAN) $$($(CXX) -print-file-name=libstdc++.so)" \
		$(BIN)/python -m pytest tests/core --deselect tests/core/test_stub.py

build/sanitized/.built: $(VENV)/.test tests/fuzz/CMakeLists.txt $(wildcard tests/fuzz/*.cpp tests/fuzz/*.hpp)
	@test -e "$(ASAN)" || { echo "Missing: the address sanitizer's libasan.so of $(CXX); on Debian or Ubuntu: apt install g++, or name GCC: make sanitize CXX=g++" >&2; exit 1; }
	rm -rf build/sanitized
	CXX='$(CXX)' SKBUILD_BUILD_DIR=build/sanitize SKBUILD_CMAKE_BUILD_TYPE=RelWithDebInfo SKBUILD_INSTALL_STRIP=false \
		SKBUILD_CMAKE_DEFINE='NCODE_SANITIZE=ON;NCODE_FUZZ=ON;NCODE_WERROR=ON' \
		$(BIN)/python -m pip install --quiet --no-deps --target build/sanitized .
	@touch $@

fuzz: fuzz-core fuzz-inputs ## Feed the core and the command line with broken input, SECONDS for each kind; needs Clang

fuzz-core:
	@command -v $(CLANGXX) >/dev/null || { echo "Missing: Clang with libFuzzer; on Debian or Ubuntu: apt install clang; or name one: make fuzz CLANGXX=clang++-14" >&2; exit 1; }
	cmake -S . -B build/fuzz -DCMAKE_CXX_COMPILER=$(CLANGXX) -DCMAKE_BUILD_TYPE=RelWithDebInfo \
		-DNCODE_FUZZ=ON -DNCODE_PYTHON=OFF -DNCODE_SANITIZE=ON -DNCODE_WERROR=ON
	cmake --build build/fuzz
	@mkdir -p build/fuzz/found
	build/fuzz/tests/fuzz/fuzz_codes -max_total_time=$(SECONDS) -max_len=2048 -artifact_prefix=build/fuzz/ \
		-print_final_stats=1 build/fuzz/found tests/fuzz/corpus

fuzz-inputs: $(VENV)/.test
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

bench: $(VENV)/.test ## Run the benchmarks and print their tables; needs Optuna: .venv/bin/pip install optuna
	$(BIN)/python -m benchmarks.core
	$(BIN)/python benchmarks/loop.py
	$(BIN)/python benchmarks/ranker.py
	$(BIN)/python benchmarks/embedded.py

format: $(VENV)/.test ## Format the Python code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove everything that was built or installed
	rm -rf $(VENV) build .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.search: $(CORE) | $(BIN)/python
	@echo "Installing into $(VENV); compiling llama.cpp takes most of the time, 4 to 9 minutes on two cores."
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[cnn]'
	@touch $@

# The core once more, alone: in our own build of it warnings are errors.
$(VENV)/.test: $(CORE) | $(BIN)/python
	@echo "Installing into $(VENV); compiling llama.cpp takes most of the time, 4 to 9 minutes on two cores."
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[cnn,lora,smollm2,dev]'
	SKBUILD_CMAKE_DEFINE=NCODE_WERROR=ON $(BIN)/python -m pip install --quiet --no-deps -e .
	@touch $@ $(VENV)/.search

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "Missing: Python 3.10 or newer; install it, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Missing: Python 3.10 or newer; $(PYTHON) is older; name another one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Missing: pip and venv for $(PYTHON); on Debian or Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || { echo "Missing: the C headers of $(PYTHON); on Debian or Ubuntu: apt install python3-dev" >&2; exit 1; }
	@printf '#include <concepts>\nint main() {}\n' | $(CXX) -std=c++20 -x c++ -fsyntax-only - 2>/dev/null || { echo "Missing: a C++20 compiler, such as GCC 11 or Clang 14; on Debian or Ubuntu: apt install g++; or name one: make CXX=/path/to/c++" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
