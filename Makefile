# Thin front of CMake. `make` prints this list.
SHELL := /bin/bash -o pipefail
MODE ?= release
BUILD := build/$(MODE)
JOBS ?= $(shell nproc)
PREFIX ?= /usr/local

flags_release := -DCMAKE_BUILD_TYPE=Release
flags_debug   := -DCMAKE_BUILD_TYPE=Debug
flags_asan    := -DCMAKE_BUILD_TYPE=Debug -DDR_SANITIZE=address,undefined
flags_tsan    := -DCMAKE_BUILD_TYPE=Debug -DDR_SANITIZE=thread
flags_clang   := -DCMAKE_BUILD_TYPE=Release
flags_tests   := $(if $(TESTS),-DBUILD_TESTING=ON -DDR_WERROR=ON)
compiler      := $(if $(filter clang,$(MODE)),clang,$(if $(filter default,$(origin CC)),gcc,$(CC)))

.PHONY: help deps test-deps build demo test test-full check-fullsize fuzz docs format tidy install clean
.NOTPARALLEL:

help:
	@echo "make demo            deps, build, draw pictures into demo/"
	@echo "make test            test-deps, build with gcc and clang, run all tests"
	@echo "make build           build/release/darkroom, darkroom-worker, libdarkroom; TESTS=1 also the tests"
	@echo "                     MODE=release|debug|asan|tsan|clang chooses the build"
	@echo "make install         programs, libdarkroom, manual page, completions into PREFIX (default /usr/local);"
	@echo "                     DESTDIR=DIR puts them below DIR; sudo only where PREFIX is not writable"
	@echo "make deps            install what the build needs (Debian, Ubuntu; others: see requirements.txt)"
	@echo "make test-deps       the same with what the tests need"
	@echo "make test-full       the tests, then again under the address, undefined and thread sanitizers"
	@echo "make check-fullsize  agreement with the reference at SDXL's real size (needs 7 GB of disk, Python, numpy)"
	@echo "make fuzz            ten minutes of fuzzing for each target (clang)"
	@echo "make docs            write the tables in docs/ that repeat tables of the program"
	@echo "make format tidy     clang-format in place; clang-tidy"
	@echo "make clean           remove build/ and the pictures of make demo"

deps:
	@tools/packages.sh build

test-deps:
	@tools/packages.sh build test

build:
	@tools/configure.sh $(BUILD) $(compiler) $(flags_$(MODE)) $(flags_tests)
	@cmake --build $(BUILD) -j $(JOBS)

demo: deps
	@$(MAKE) --no-print-directory build
	@tools/demo.sh $(BUILD)/darkroom demo

test: test-deps
	@$(MAKE) --no-print-directory build TESTS=1
	@$(MAKE) --no-print-directory build TESTS=1 MODE=clang
	@cd $(BUILD) && ctest --output-on-failure -j $(JOBS)

test-full: test
	@for mode in asan tsan; do \
	    $(MAKE) --no-print-directory build TESTS=1 MODE=$$mode && \
	    (cd build/$$mode && ctest --output-on-failure -j $(JOBS) -L unit) || exit 1; done

check-fullsize: test-deps
	@$(MAKE) --no-print-directory build TESTS=1
	@tools/check_fullsize.sh $(BUILD)/darkroom

fuzz: test-deps
	@tools/packages.sh fuzz
	@tools/fuzz.sh 600

docs: test-deps
	@$(MAKE) --no-print-directory build TESTS=1
	@DARKROOM_SHARE=share $(BUILD)/doc_tables --write .

format:
	@git ls-files '*.c' '*.h' '*.inc' | xargs clang-format -i

tidy: test-deps
	@tools/packages.sh tidy
	@$(MAKE) --no-print-directory build TESTS=1 MODE=clang
	@git ls-files '*.c' ':!testing' | xargs -P $(JOBS) -n 4 clang-tidy -p build/clang --quiet

install:
	@MODE=$(MODE) JOBS=$(JOBS) DESTDIR="$(DESTDIR)" tools/install.sh "$(PREFIX)"

clean:
	rm -rf build
	@tools/demo.sh --clean demo
