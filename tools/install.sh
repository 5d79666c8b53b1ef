#!/usr/bin/env bash
# Builds, and installs below a prefix: `make install`. Everything is done as the owner of this folder; only the last
# step, copying, is done as root, and only if the owner cannot write there. So no file of root appears in a home or
# in the build folder, and no compiler runs as root.
# usage: [DESTDIR=DIR] [MODE=release] install.sh PREFIX
set -euo pipefail
cd "$(dirname "$0")/.."
mode=${MODE:-release} home=$HOME
owner=$(stat -c %u .)
as_owner=()
if [ "$(id -u)" = 0 ] && [ "$owner" != 0 ]; then # sudo make install
    home=$(getent passwd "$owner" | cut -d: -f6 || true) # an owner without a name has none
    as_owner=(setpriv --reuid="$owner" --regid="$(stat -c %g .)" --clear-groups env HOME="${home:-/}")
fi
prefix=$1
case $prefix in
"~") prefix=$home ;;
"~/"*) prefix=$home/${prefix#"~/"} ;; # not every shell expands PREFIX=~/x
esac
prefix=$(realpath -ms -- "$prefix")
target=${DESTDIR:+$(realpath -ms -- "$DESTDIR")}

stage=$PWD/build/stage
"${as_owner[@]}" env -u DESTDIR DR_PREFIX="$prefix" "${MAKE:-make}" --no-print-directory build MODE="$mode" JOBS="${JOBS:-$(nproc)}"
"${as_owner[@]}" rm -rf "$stage"
(umask 022 && DESTDIR="$stage" "${as_owner[@]}" cmake --install "build/$mode" --prefix "$prefix" >/dev/null)

# The nearest folder that exists, of each that is to be there.
writable() {
    local folder
    while IFS= read -r -d '' folder; do
        folder=$target/${folder#./}
        while [ ! -e "$folder" ]; do folder=$(dirname "$folder"); done
        "${as_owner[@]}" test -w "$folder" || return 1
    done < <(cd "$stage" && find ".$prefix" -type d -print0)
}
root=() whose=owner
if writable; then
    root=("${as_owner[@]}")
elif [ "$(id -u)" = 0 ]; then
    whose=root
elif command -v sudo >/dev/null; then
    root=(sudo) whose=root
else
    echo "$target$prefix cannot be written, and there is no sudo: run \`make install\` as root or choose another PREFIX" >&2
    exit 1
fi
umask 022
"${root[@]}" mkdir -p -- "$target$prefix"
"${root[@]}" cp -RP --remove-destination -- "$stage$prefix/." "$target$prefix/" # folders that are there keep their mode
"${as_owner[@]}" rm -rf "$stage"
[ "$(id -u)" != 0 ] && [ $whose = owner ] || [ -n "$target" ] || "${root[@]}" ldconfig 2>/dev/null || true # libdarkroom.so may be new
echo "installed in $target$prefix"
