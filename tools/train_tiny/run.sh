#!/bin/sh
# Trains the small model from nothing into share/models/tiny.   usage: run.sh [WORK_FOLDER]
# Needs Python 3.11 or later with the packages of requirements.txt; takes about 70 minutes of two idle cores.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=${1:-$here/../../build/train_tiny}
export HF_HUB_OFFLINE=1 PYTHONPATH="$here"
python3 "$here/train.py" "$work" --export "$here/../../share/models/tiny"
python3 "$here/captions.py" "$here/../../testing/golden/tiny/captions.json"
