#!/usr/bin/env bash
# What `make install` leaves is all that a host program needs: installs into a fresh prefix, compiles the example
# against it and has it draw.   usage: test_install.sh SOURCE BUILD COMPILER
set -euo pipefail
source=$1 build=$2 compiler=$3
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT

cmake --install "$build" --prefix "$prefix" >/dev/null
for file in bin/darkroom bin/darkroom-worker include/darkroom.h share/man/man1/darkroom.1 \
    share/bash-completion/completions/darkroom share/zsh/site-functions/_darkroom \
    share/fish/vendor_completions.d/darkroom.fish share/darkroom/models/tiny/model_index.json; do
    [ -s "$prefix/$file" ] || { echo "$file: not installed"; exit 1; }
done
grep -q 'help cases' "$prefix/share/man/man1/darkroom.1"
grep -q 'dpmpp_2m' "$prefix/share/bash-completion/completions/darkroom"

others=$(nm --defined-only -g "$prefix/lib/libdarkroom.a" | awk 'NF == 3 && $3 !~ /^darkroom_/ { print $3 }')
[ -z "$others" ] || { echo "libdarkroom.a has names that are not darkroom.h's:" $others; exit 1; }

unset DARKROOM_SHARE
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
"$compiler" -std=c99 -Wall -Werror "$source/examples/draw.c" $(pkg-config --cflags --libs darkroom) -o "$prefix/bin/draw"
mkdir "$prefix/pictures"
"$prefix/bin/draw" "$prefix/pictures" "a red circle on a white background" >/dev/null
[ -s "$prefix/pictures/draw-1_000.png" ] || { ls "$prefix/pictures"; exit 1; }
