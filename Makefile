# Thin front of CMake. `make` prints this list.
SHELL := /bin/bash -o pipefail
MODE ?= release
BUILD := build/$(MODE)
JOBS ?= $(shell nproc)
PACKAGES := $(shell sed -e 's/\#.*//' requirements.txt)
ROOT := $(shell [ $$(id -u) = 0 ] || echo sudo)

flags_release := -DCMAKE_BUILD_TYPE=Release
flags_debug   := -DCMAKE_BUILD_TYPE=Debug
flags_asan    := -DCMAKE_BUILD_TYPE=Debug -DDR_SANITIZE=address
flags_ubsan   := -DCMAKE_BUILD_TYPE=Debug -DDR_SANITIZE=undefined
flags_tsan    := -DCMAKE_BUILD_TYPE=Debug -DDR_SANITIZE=thread
flags_clang   := -DCMAKE_BUILD_TYPE=Release
compiler      := $(if $(filter clang,$(MODE)),clang,gcc)

.PHONY: help deps build demo test test-full check-fullsize fuzz format tidy install clean

help:
	@echo "make demo            install what is needed, build, draw pictures into demo/"
	@echo "make test            install what is needed, build with gcc and clang, run all tests"
	@echo "make build           build/release/darkroom and build/release/darkroom-worker"
	@echo "                     MODE=release|debug|asan|ubsan|tsan|clang chooses the build"
	@echo "make test-full       the tests, then again under the address, undefined and thread sanitizers"
	@echo "make check-fullsize  agreement with the reference at SDXL's real size (needs 7 GB of disk, Python, numpy)"
	@echo "make fuzz            ten minutes of fuzzing for each target (clang)"
	@echo "make format tidy     clang-format in place; clang-tidy"
	@echo "make install         programs, libdarkroom, manual page, completions into PREFIX (default /usr/local)"
	@echo "make deps clean      install the packages of requirements.txt; remove build/ and demo/"

deps:
	@missing=; for p in $(PACKAGES); do \
	    dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then echo "installing:$$missing"; \
	    $(ROOT) apt-get update -q && $(ROOT) env DEBIAN_FRONTEND=noninteractive \
	        apt-get install -y -q --no-install-recommends $$missing; fi

build: deps
	@cmake -S . -B $(BUILD) -G Ninja -DCMAKE_C_COMPILER=$(compiler) $(flags_$(MODE)) $(prefix_flag) | tail -n 1
	@cmake --build $(BUILD) -j $(JOBS)

demo: build
	@tools/demo.sh $(BUILD)/darkroom demo

test: build
	@$(MAKE) --no-print-directory build MODE=clang
	@cd $(BUILD) && ctest --output-on-failure -j $(JOBS)

test-full: test
	@for mode in asan ubsan tsan; do \
	    $(MAKE) --no-print-directory build MODE=$$mode && \
	    (cd build/$$mode && ctest --output-on-failure -j $(JOBS) -L unit) || exit 1; done

check-fullsize: build
	@tools/check_fullsize.sh $(BUILD)/darkroom

fuzz: deps
	@tools/fuzz.sh 600

format:
	@git ls-files '*.c' '*.h' '*.inc' | xargs clang-format -i

tidy:
	@$(MAKE) --no-print-directory deps PACKAGES=clang-tidy
	@$(MAKE) --no-print-directory build MODE=clang
	@git ls-files '*.c' ':!testing' | xargs -P $(JOBS) -n 4 clang-tidy -p build/clang --quiet

install: prefix := $(abspath $(or $(PREFIX),/usr/local))
install: prefix_flag = -DCMAKE_INSTALL_PREFIX=$(prefix)
install: build
	@$(ROOT) cmake --install $(BUILD) --prefix $(prefix)

clean:
	rm -rf build demo
