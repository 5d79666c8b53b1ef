#!/usr/bin/env bash
# What is made of the shipped model with the reference: its golden runs, and the picture that `darkroom check` compares with.
#
#     tools/golden/tiny.sh        with a Python that has torch, diffusers, transformers, scipy, Pillow (versions: pipeline.py)
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
export HF_HUB_OFFLINE=1
rm -rf testing/golden/tiny/runs
"$python" tools/golden/pipeline.py share/models/tiny testing/golden/tiny/cases.json testing/golden/tiny/runs
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf '[{"name": "check", "request": %s}]' "$(cat share/check/request.json)" > "$work/cases.json"
"$python" tools/golden/pipeline.py share/models/tiny "$work/cases.json" "$work"
"$python" - "$work/check/image.npy" share/check/picture.png <<'PY'
import sys
import numpy as np
from PIL import Image
picture = np.load(sys.argv[1])[0].transpose(1, 2, 0)
Image.fromarray(np.rint(picture * np.float32(255)).astype(np.uint8)).save(sys.argv[2], optimize=True)
PY
