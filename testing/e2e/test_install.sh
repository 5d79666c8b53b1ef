#!/usr/bin/env bash
# What `make install` leaves is all that a host program needs: installs into a fresh prefix, compiles the usage of the
# header and the examples against it, shared and static, by pkg-config and by CMake, and has them draw; also after the
# prefix was moved.   usage: test_install.sh SOURCE BUILD COMPILER
set -euo pipefail
source=$1 build=$2 compiler=$3
work=$(mktemp -d)
prefix=$work/prefix
trap 'rm -rf "$work"' EXIT
die() { echo "$*"; exit 1; }

cmake --install "$build" --prefix "$prefix" >/dev/null
libdir=$(dirname "$(find "$prefix" -name libdarkroom.a)")
for file in bin/darkroom bin/darkroom-worker include/darkroom.h share/man/man1/darkroom.1 \
    share/bash-completion/completions/darkroom share/zsh/site-functions/_darkroom \
    share/fish/vendor_completions.d/darkroom.fish share/darkroom/models/tiny/model_index.json; do
    [ -s "$prefix/$file" ] || die "$file: not installed"
done
grep -q 'help cases' "$prefix/share/man/man1/darkroom.1"
grep -q 'dpmpp_2m' "$prefix/share/bash-completion/completions/darkroom"

# The names: exactly those of the header, in the shared library all of the node of its SONAME.
declared=$(tr '\n' ' ' <"$prefix/include/darkroom.h" | grep -o 'DARKROOM_API [^;(]*(' | grep -o 'darkroom_[a-z_]*(' |
    tr -d '(' | sort)
[ "$(wc -w <<<"$declared")" -ge 12 ] || die "only these functions were found in the header:" $declared
static=$(nm --defined-only -g "$libdir/libdarkroom.a" | awk 'NF == 3 { print $3 }' | sort)
shared=$(nm -D --defined-only "$libdir/libdarkroom.so" | awk '$2 != "A" { print $3 }' | sort)
[ "$static" = "$declared" ] || die "libdarkroom.a has other names than darkroom.h:" $static
[ "$shared" = "$(sed 's/$/@@DARKROOM_0/' <<<"$declared")" ] || die "libdarkroom.so has other names than darkroom.h:" $shared
readelf -d "$libdir/libdarkroom.so" | grep -q 'SONAME.*\[libdarkroom\.so\.0\]' || die "SONAME is not libdarkroom.so.0"
[ "$(readlink "$libdir/libdarkroom.so")" = libdarkroom.so.0 ] || die "libdarkroom.so is not a link to libdarkroom.so.0"
! readelf -d "$libdir/libdarkroom.so" | grep -q 'libyaml' || die "libdarkroom.so needs libyaml"

unset DARKROOM_SHARE
export PKG_CONFIG_PATH=$libdir/pkgconfig
version=$(sed -n 's/^#define DARKROOM_VERSION_\(MAJOR\|MINOR\|PATCH\) //p' "$prefix/include/darkroom.h" | paste -sd.)
[ "$(pkg-config --modversion darkroom)" = "$version" ] || die "darkroom.pc has another version than the header"
"$prefix/bin/darkroom-worker" --version | grep -qx "darkroom-worker $version" || die "the worker has another version"
[ "$(PKG_CONFIG_LIBDIR=$libdir/pkgconfig pkg-config --cflags --libs darkroom | tr -s ' ' '\n' | sed 's/^-[IL].*//' | tr -d '\n')" = -ldarkroom ] ||
    die "a host of the shared library needs more than the library"

# Host programs: the examples and the usage in the header, which must compile as it stands there.
host() { # NAME FILE OPTION...
    local name=$1 file=$2
    shift 2
    "$compiler" -std=c99 -Wall -Wextra -Wpedantic -Werror "$file" "$@" -o "$work/$name"
}
{
    printf '#include <darkroom.h>\n#include <stdio.h>\n#include <stdlib.h>\n'
    printf 'static void die(const char *text) { fputs(text, stderr); exit(1); }\n'
    sed -n 's/^ \*     \(static void on_event.*\)/\1/p' "$prefix/include/darkroom.h"
    printf 'int main(void)\n{\n'
    sed -n '/^ \*     struct darkroom \*engine/,/^ \*     darkroom_close/s/^ \*    //p' "$prefix/include/darkroom.h" |
        sed "s#//.*##; s#/tmp#$work/usage#"
    printf 'return 0;\n}\n'
} >"$work/usage.c"
mkdir "$work/usage"
sed -i "s#{\\\\\"threads\\\\\": 0}#{\\\\\"roots\\\\\": [\\\\\"$work/usage\\\\\"]}#" "$work/usage.c"
rpath="-Wl,-rpath,$libdir"
host usage_program "$work/usage.c" -Wno-unused-parameter $(pkg-config --cflags --libs darkroom) "$rpath"
"$work/usage_program" >/dev/null
[ -s "$work/usage/a_000.png" ] || die "the usage in darkroom.h drew nothing"

host draw "$source/examples/draw.c" $(pkg-config --cflags --libs darkroom) "$rpath"
host ppm "$source/examples/ppm.c" $(pkg-config --cflags --libs darkroom) "$rpath"
private=$(pkg-config --static --libs darkroom | tr ' ' '\n' | grep -v -e '^-ldarkroom$' -e '^-L')
host ppm_static "$source/examples/ppm.c" $(pkg-config --cflags darkroom) "$libdir/libdarkroom.a" $private
mkdir "$work/pictures"
"$work/draw" "$work/pictures" "a red circle on a white background" >/dev/null
[ -s "$work/pictures/draw-1_000.png" ] || { ls "$work/pictures"; exit 1; }
"$work/ppm" "$work/shared.ppm" "a red circle"
[ "$(head -c 15 "$work/shared.ppm" | tr '\n' ' ')" = "P6 128 128 255 " ] || die "ppm wrote no PPM file"
[ "$(stat -c %s "$work/shared.ppm")" = $((15 + 128 * 128 * 3)) ] || die "ppm wrote half a picture"
# a static host looks beside itself, then where the build was configured for: here the variable says
DARKROOM_SHARE=$prefix/share/darkroom "$work/ppm_static" "$work/static.ppm" "a red circle"
cmp "$work/shared.ppm" "$work/static.ppm"

# C++ reads the header, where there is such a compiler.
printf '#include <darkroom.h>\nint main() { return darkroom_version() == nullptr; }\n' >"$work/host.cc"
for cxx in g++ clang++; do
    if command -v $cxx >/dev/null && echo | $cxx -x c++ -fsyntax-only - 2>/dev/null; then
        $cxx -Wall -Wextra -Wpedantic -Werror -fsyntax-only -I "$prefix/include" "$work/host.cc"
    fi
done

# CMake finds both libraries.
mkdir "$work/cmake"
cat >"$work/cmake/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.25)
project(host C)
find_package(darkroom $version REQUIRED COMPONENTS static)
add_executable(one $source/examples/ppm.c)
target_link_libraries(one PRIVATE darkroom::darkroom)
add_executable(two $source/examples/ppm.c)
target_link_libraries(two PRIVATE darkroom::static)
END
cmake -S "$work/cmake" -B "$work/cmake/build" -DCMAKE_C_COMPILER="$compiler" -DCMAKE_PREFIX_PATH="$prefix" >"$work/log" ||
    { cat "$work/log"; exit 1; }
cmake --build "$work/cmake/build" >"$work/log" || { cat "$work/log"; exit 1; }
"$work/cmake/build/one" "$work/cmake.ppm" "a red circle"
cmp "$work/shared.ppm" "$work/cmake.ppm"

# A moved prefix: the library finds its data by its own place, from any folder.
mv "$prefix" "$work/moved"
cd /
LD_LIBRARY_PATH=${libdir/#"$prefix"/"$work/moved"} "$work/ppm" "$work/moved.ppm" "a red circle"
cmp "$work/shared.ppm" "$work/moved.ppm"
