#!/usr/bin/env python3
"""The small model's captions: the generator draws none that is held out, and the committed list is the one it writes.

usage: test_caption_list.py SOURCE BUILD
"""
import json
import os
import sys

source = sys.argv[1]
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(source, "tools", "train_tiny"))
import captions  # noqa: E402

drawn = captions.Scenes(11)
for _ in range(20000):
    scene, caption = drawn.next()
    if captions.held_out(caption) or captions.held_out(captions.caption_of(scene)):
        sys.exit(f"held out of training but drawn for it: {caption}")

with open(os.path.join(source, "testing", "golden", "tiny", "captions.json"), encoding="utf-8") as f:
    committed = json.load(f)
if committed != captions.document():
    sys.exit("testing/golden/tiny/captions.json: not what tools/train_tiny/captions.py writes")
for entry in committed["captions"]:
    if captions.held_out(entry["caption"]) == (entry["group"] == "trained"):
        sys.exit(f"in the wrong group: {entry['caption']}")
