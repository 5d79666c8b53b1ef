#!/bin/sh
# Errors of one prediction and one decode at SDXL's real size against float32, beside PyTorch's in bfloat16:
# tools/check_errors.sh DARKROOM [plain] [stress]
#
# Makes the random-weight checkpoints that are asked for in $DARKROOM_FULLSIZE (default: darkroom-fullsize under TMPDIR;
# 7 GB each, kept) and a virtual environment beside them, or uses that of $DARKROOM_VENV. Writes errors-KIND.json there.
# $DARKROOM_ERRORS has further options of tools/errors/errors.py. Needs 16 GB of memory and some minutes for each.
set -eu
usage="usage: $0 DARKROOM [plain] [stress]"
case ${1:-} in
-h | --help) echo "$usage" && exec sed -n '/^# Makes/,/^# \$DARK/s/^# //p' "$0" ;;
'') echo "$usage" >&2 && exit 2 ;;
esac
[ -x "$1" ] && [ -x "$(dirname "$1")/darkroom-worker" ] ||
    { echo "$1: expected the program darkroom with darkroom-worker beside it" >&2; exit 2; }
programs=$(dirname "$(realpath "$1")")
shift
[ $# -ge 1 ] || set -- plain stress
here=$(dirname "$(realpath "$0")")
place=${DARKROOM_FULLSIZE:-${TMPDIR:-/tmp}/darkroom-fullsize}
venv=${DARKROOM_VENV:-$place/venv}
mkdir -p "$place"
if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q -r "$here/errors/requirements.txt"
fi
wrong=0
for kind in "$@"; do
    case $kind in
    plain) model=$place/sdxl.safetensors flags= ;;
    stress) model=$place/sdxl-stress.safetensors flags=--stress ;;
    *) echo "$kind: expected plain or stress" >&2; exit 2 ;;
    esac
    if [ ! -f "$model" ]; then
        "$venv/bin/python" "$here/make_sdxl_checkpoint.py" "$model.part" $flags
        mv "$model.part" "$model"
    fi
    echo "$kind:"
    "$venv/bin/python" "$here/errors/errors.py" "$programs" "$model" "$place/errors-$kind.json" \
        ${DARKROOM_ERRORS:-} || wrong=1
done
exit $wrong
