#!/usr/bin/env bash
# Feeds every fuzz target for so many seconds, JOBS at a time, starting from its committed corpus.
# usage: fuzz.sh BUILD SECONDS JOBS [TARGET...]      (BUILD: made by `make build TESTS=1 MODE=asan`; TARGET: png, config ...)
#
# New inputs are kept in BUILD/fuzz/TARGET/found and used by the next run of more than a minute. One that breaks a
# target is BUILD/fuzz/TARGET/crash-HASH (or timeout-, oom-, leak-), and the end of its log is printed.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$(realpath "$1") seconds=$2 jobs=$3
shift 3
export DARKROOM_SHARE=$PWD/share ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1

run_target() {
    local build=$1 seconds=$2 name=$3
    local folder=$build/fuzz/$name
    local found=$folder/found
    mkdir -p "$found"
    [ "$seconds" -gt 60 ] || found=$(mktemp -d "$folder/run.XXXXXX") # short runs all begin the same way
    # no block above 400 MB, 1 GB in all: the largest picture that is accepted has 160 MB
    local status=0
    "$build/fuzz_$name" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=1024 -malloc_limit_mb=400 -max_len=16384 \
        -print_final_stats=1 -artifact_prefix="$folder/" "$found" "testing/fuzz/corpus/$name" >"$folder/log" 2>&1 || status=$?
    if [ $status = 0 ]; then
        sed -n "s/^stat::number_of_executed_units: *\(.*\)/fuzz $name: \1 inputs/p" "$folder/log"
    else
        echo "fuzz $name: failed; the input is below $folder:"
        tail -n 40 "$folder/log"
    fi
    case $found in */run.*) rm -rf "$found" ;; esac
    return $status
}
export -f run_target

if [ $# = 0 ]; then
    for source in testing/fuzz/fuzz_*.c; do
        name=$(basename "$source" .c)
        set -- "$@" "${name#fuzz_}"
    done
fi
printf '%s\n' "$@" | xargs -P "$jobs" -I '{}' bash -euo pipefail -c 'run_target "$@"' _ "$build" "$seconds" '{}'
