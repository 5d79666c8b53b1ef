#!/usr/bin/env python3
"""Makes share/tokenizers/clip/merges.txt.zst from the BPE table that OpenAI published with CLIP.

    pip download --no-deps open_clip_torch==3.3.0
    unzip open_clip_torch-3.3.0-py3-none-any.whl open_clip/bpe_simple_vocab_16e6.txt.gz
    python3 make_clip_table.py open_clip/bpe_simple_vocab_16e6.txt.gz ../../share/tokenizers/clip

CLIP uses the first 49152 - 256 - 2 of the file's 262,144 merges (clip/simple_tokenizer.py); the rest is
dropped, the version line kept, so that the result is the merges.txt of a diffusers folder. Needs the
`zstd` program and nothing outside the standard library.
"""
import gzip
import hashlib
import pathlib
import subprocess
import sys

SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
MERGES = 49152 - 256 - 2


def main():
    source, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    data = source.read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256:
        sys.exit(f"{source}: not the table published with CLIP (sha256 differs)")
    lines = gzip.decompress(data).decode("utf-8").split("\n")[1:MERGES + 1]
    assert len(lines) == MERGES and all(len(line.split(" ")) == 2 for line in lines)
    text = ("#version: 0.2\n" + "".join(line + "\n" for line in lines)).encode("utf-8")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "merges.txt.zst"
    subprocess.run(["zstd", "--ultra", "-22", "-q", "-f", f"--stream-size={len(text)}",
                    "-o", str(target)], input=text, check=True)
    print(f"{target}: {len(lines)} merges, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
