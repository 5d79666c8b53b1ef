#!/usr/bin/env bash
# Feeds each fuzzing target for so many seconds, starting from its committed corpus.   usage: fuzz.sh SECONDS
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=$1
cmake -S . -B build/fuzz -G Ninja -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=Debug -DDR_FUZZ=ON \
    -DDR_SANITIZE=address | tail -n 1
for source in testing/fuzz/fuzz_*.c; do
    target=$(basename "$source" .c)
    cmake --build build/fuzz --target "$target"
    mkdir -p "build/fuzz/found/$target"
    "build/fuzz/$target" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=512 -max_len=65536 \
        -print_final_stats=1 "build/fuzz/found/$target" "testing/fuzz/corpus/${target#fuzz_}"
done
