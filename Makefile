# Thin front of CMake. `make` prints this list.
SHELL := /bin/bash -o pipefail
MODE ?= release
BUILD := build/$(MODE)
JOBS ?= $(shell nproc)
PREFIX ?= /usr/local

flags_release := -DCMAKE_BUILD_TYPE=Release
flags_debug   := -DCMAKE_BUILD_TYPE=Debug
flags_asan    := -DCMAKE_BUILD_TYPE=Debug -DDR_SANITIZE=address,undefined -DDR_FUZZ=ON
flags_tsan    := -DCMAKE_BUILD_TYPE=Debug -DDR_SANITIZE=thread
flags_clang   := -DCMAKE_BUILD_TYPE=Release
flags_tests   := $(if $(TESTS),-DBUILD_TESTING=ON -DDR_WERROR=ON)
compiler      := $(if $(filter clang asan,$(MODE)),clang,$(if $(filter default,$(origin CC)),gcc,$(CC)))

.PHONY: help deps test-deps build demo test test-sanitized test-full check-fullsize fuzz docs format tidy install clean
.NOTPARALLEL:

help:
	@echo "make demo            deps, build, draw pictures into demo/"
	@echo "make test            test-deps, build with gcc and clang, run all tests, also with sanitizers and fuzzing"
	@echo "make build           build/release/darkroom, darkroom-worker, libdarkroom; TESTS=1 also the tests"
	@echo "                     MODE=release|debug|asan|tsan|clang chooses the build"
	@echo "make install         programs, libdarkroom, manual page, completions into PREFIX (default /usr/local);"
	@echo "                     DESTDIR=DIR puts them below DIR; sudo only where PREFIX is not writable"
	@echo "make deps            install what the build needs (Debian, Ubuntu; others: see requirements.txt)"
	@echo "make test-deps       the same with what the tests need"
	@echo "make test-full       the tests, then all of them under the address and undefined, unit tests under the thread sanitizer"
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
	@cmake --build $(BUILD) -j $(JOBS) $(if $(TARGETS),--target $(TARGETS))

demo: deps
	@$(MAKE) --no-print-directory build
	@tools/demo.sh $(BUILD)/darkroom demo

# In the order of what fails most often. The other compiler's build is what its bits are compared with; its warnings come
# from the sanitized build, which is clang's too.
test: test-deps
	@$(MAKE) --no-print-directory build TESTS=1
	@$(MAKE) --no-print-directory build TESTS=1 MODE=clang TARGETS=compared
	@cd $(BUILD) && ctest --output-on-failure -j $(JOBS)
	@$(MAKE) --no-print-directory test-sanitized
	@tools/tidy.sh build/clang $(JOBS) changed
	@tools/speed.py $(BUILD)/darkroom build/speed.jsonl

test-sanitized: test-deps
	@$(MAKE) --no-print-directory build TESTS=1 MODE=asan TARGETS="unit_tests fuzzers"
	@cd build/asan && ctest --output-on-failure -j $(JOBS) -L 'unit|fuzz'
	@tools/fuzz.sh build/asan 10 $(JOBS)

test-full: test
	@$(MAKE) --no-print-directory build TESTS=1 MODE=asan
	@cd build/asan && ctest --output-on-failure -j $(JOBS) -LE 'unit|fuzz|lint'
	@$(MAKE) --no-print-directory build TESTS=1 MODE=tsan TARGETS=unit_tests
	@cd build/tsan && ctest --output-on-failure -j $(JOBS) -L unit

check-fullsize: test-deps
	@$(MAKE) --no-print-directory build TESTS=1
	@tools/check_fullsize.sh $(BUILD)/darkroom

fuzz: test-deps
	@$(MAKE) --no-print-directory build TESTS=1 MODE=asan TARGETS=fuzzers
	@tools/fuzz.sh build/asan 600 $(JOBS)

docs: test-deps
	@$(MAKE) --no-print-directory build TESTS=1 TARGETS=doc_tables
	@DARKROOM_SHARE=share $(BUILD)/doc_tables --write .

format:
	@git ls-files '*.c' '*.h' '*.inc' | xargs clang-format -i

tidy: test-deps
	@tools/configure.sh build/clang clang $(flags_clang) -DBUILD_TESTING=ON -DDR_WERROR=ON
	@tools/tidy.sh build/clang $(JOBS) all

install:
	@MODE=$(MODE) JOBS=$(JOBS) DESTDIR="$(DESTDIR)" tools/install.sh "$(PREFIX)"

clean:
	rm -rf build
	@tools/demo.sh --clean demo
