#!/bin/sh
# Agreement with the reference, memory, speed and cancel at SDXL's real size: tools/check_fullsize.sh DARKROOM [CHECK...]
#
# Makes a random-weight checkpoint of 7 GB in $DARKROOM_FULLSIZE (default: darkroom-fullsize under TMPDIR) and keeps it.
# CHECK: agree memory fraction fast cancel; all of them if none is named. Needs about 16 GB of memory and, on two cores, half
# an hour. Python drives the worker from outside; numpy makes the checkpoint.
set -eu
[ $# -ge 1 ] || { echo "usage: $0 DARKROOM [agree] [memory] [fraction] [fast] [cancel]" >&2; exit 2; }
programs=$(dirname "$(realpath "$1")")
shift
here=$(dirname "$(realpath "$0")")
place=${DARKROOM_FULLSIZE:-${TMPDIR:-/tmp}/darkroom-fullsize}
model=$place/sdxl.safetensors
mkdir -p "$place"
if ! python3 -c 'import numpy' 2>/dev/null; then
    as_root=
    [ "$(id -u)" = 0 ] || as_root=sudo
    $as_root apt-get update -q
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends python3-numpy
fi
if [ ! -f "$model" ]; then
    python3 "$here/make_sdxl_checkpoint.py" "$model.part"
    mv "$model.part" "$model"
fi
exec python3 "$here/fullsize_checks.py" "$programs" "$model" "$here/../testing/golden/fullsize" "$@"
