#!/usr/bin/env bash
# Runs CMake for `make build`, silently. What is not installed is named in one line, by its package.
# usage: configure.sh BUILD COMPILER CMAKE-OPTION...      (DR_PREFIX in the environment: the prefix to build for)
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1 compiler=$2
shift 2
fail() {
    echo "not installed: $1 (names of Debian and Ubuntu; \`make ${2:-deps}\` installs them)" >&2
    exit 1
}

missing=()
command -v "$compiler" >/dev/null || missing+=("$compiler")
command -v cmake >/dev/null || missing+=(cmake)
command -v ninja >/dev/null || command -v make >/dev/null || missing+=(ninja-build)
command -v pkg-config >/dev/null || missing+=(pkgconf)
command -v objcopy >/dev/null || missing+=(binutils)
[ ${#missing[@]} = 0 ] || fail "${missing[*]}" "$([ "${missing[0]}" = clang ] && echo test-deps || echo deps)"
echo '#include <stdio.h>' | "$compiler" -E -x c - >/dev/null 2>&1 || fail libc6-dev

generator=()
if [ ! -f "$build/CMakeCache.txt" ] && command -v ninja >/dev/null; then
    generator=(-G Ninja)
elif [ -f "$build/CMakeCache.txt" ] && ! command -v ninja >/dev/null && grep -q ':INTERNAL=Ninja$' "$build/CMakeCache.txt"; then
    fail ninja-build # the folder was made with it
fi
mkdir -p "$build"
log=$build/configure.log
if cmake -S . -B "$build" "${generator[@]}" -DCMAKE_C_COMPILER="$compiler" \
    ${DR_PREFIX:+-DCMAKE_INSTALL_PREFIX="$DR_PREFIX"} "$@" >"$log" 2>&1; then
    exit 0
fi
sed -n 's/^ *\(not installed: .*\)/\1/p' "$log" | grep . >&2 || cat "$log" >&2
exit 1
