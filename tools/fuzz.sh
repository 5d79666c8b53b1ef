#!/usr/bin/env bash
# Feeds each fuzzing target for so many seconds, starting from its committed corpus.   usage: fuzz.sh SECONDS
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=$1
runtime=libclang-rt-14-dev # libFuzzer and the sanitizers of clang 14
if ! dpkg-query -W -f '${Status}' "$runtime" 2>/dev/null | grep -q 'ok installed'; then
    root=$([ "$(id -u)" = 0 ] || echo sudo)
    $root apt-get update -q && $root apt-get install -y -q --no-install-recommends "$runtime"
fi
cmake -S . -B build/fuzz -G Ninja -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=Debug -DDR_FUZZ=ON \
    -DDR_SANITIZE=address | tail -n 1
for source in testing/fuzz/fuzz_*.c; do
    target=$(basename "$source" .c)
    cmake --build build/fuzz --target "$target"
    mkdir -p "build/fuzz/found/$target"
    "build/fuzz/$target" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=512 -max_len=65536 \
        -print_final_stats=1 "build/fuzz/found/$target" "testing/fuzz/corpus/${target#fuzz_}"
done
