#!/usr/bin/env python3
"""Makes share/tokenizers/unicode.tbl.zst by asking the reference about every Unicode scalar value.

    python make_unicode_table.py ../../share/tokenizers

Needs transformers 5.23.0 and tokenizers 0.23.3 and the `zstd` program. The reference carries tables of
several Unicode versions (composition of about 9, lower case and classes of 16 and later), so no one
library reproduces it; hence the table. models/tokenizers/unicode.h describes the layout and the bits.
"""
import pathlib
import struct
import subprocess
import sys

import tokenizers
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import CLIPTokenizer

PINNED = {"transformers": "5.23.0", "tokenizers": "0.23.3"}
CLASS_OTHER, CLASS_LETTER, CLASS_NUMBER, CLASS_SPACE = range(4)
FLAG_COLLAPSE, FLAG_WORD, FLAG_STRIP, FLAG_NFC, FLAG_LOWER = 4, 8, 16, 32, 64
BLOCK = 256
SCALARS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def clip_parts():
    """The reference's own three normalizers and its word splitter, taken from an instance."""
    tok = CLIPTokenizer(vocab={"<|startoftext|>": 0, "<|endoftext|>": 1, "a": 2}, merges=[])
    backend = tok.backend_tokenizer
    return list(backend.normalizer), backend.pre_tokenizer[0]


def classes(split):
    out = {}
    for c in SCALARS:
        twice = len(split.pre_tokenize_str(chr(c) * 2))
        if twice == 0:
            out[c] = CLASS_SPACE
        elif twice == 2:
            out[c] = CLASS_NUMBER
        else:
            joined = len(split.pre_tokenize_str("a" + chr(c))) == 1
            out[c] = CLASS_LETTER if joined else CLASS_OTHER
    return out


def composing(nfc, nfd):
    """Scalars that NFC can change, move or join: everything else separates runs for it. U+11A7 is none of
    them, which keeps it from utf8proc 2.8, where it vanishes after a Hangul syllable."""
    parts = {c: nfd.normalize_str(chr(c)) for c in SCALARS}
    found = {c for c, text in parts.items() if text != chr(c) or nfc.normalize_str(chr(c)) != chr(c)}
    for c in list(found):
        found.update(ord(x) for x in parts[c])
    for c in SCALARS:  # combining class above 0: trades places with class 1 or with class 240
        before, after = "x\u0345" + chr(c), "x" + chr(c) + "\u0334"
        if nfd.normalize_str(before) != "x" + "\u0345" + parts[c] or \
           nfd.normalize_str(after) != "x" + parts[c] + "\u0334":
            found.add(c)
    return found


def word_and_strip():
    """What \\w and \\s are to added tokens that are single words or strip their surroundings."""
    tok = Tokenizer(models.BPE(vocab={"x": 0}, merges=[], unk_token="x"))
    tok.add_tokens([AddedToken("<w>", single_word=True, normalized=False),
                    AddedToken("<r>", rstrip=True, normalized=False),
                    AddedToken("<l>", lstrip=True, normalized=False)])
    word, strip = set(), set()
    for c in SCALARS:
        ch = chr(c)
        left, right = [tok.token_to_id("<w>") in tok.encode(t).ids for t in ("<w>" + ch, ch + "<w>")]
        assert left == right, hex(c)
        if not left:
            word.add(c)
        r, l = tok.encode("<r>" + ch), tok.encode(ch + "<l>")
        eaten = r.offsets[0][1] == 4
        assert eaten == (l.offsets[-1][0] == 0), hex(c)
        if eaten:
            strip.add(c)
    return word, strip


def main():
    for module in (transformers, tokenizers):
        if module.__version__ != PINNED[module.__name__]:
            sys.exit(f"{module.__name__} {module.__version__}, wanted {PINNED[module.__name__]}")
    (nfc, collapse, lower), split = clip_parts()
    class_of = classes(split)
    nfc_set = composing(nfc, normalizers.NFD())
    word, strip = word_and_strip()
    flags, lowers = bytearray(0x110000), []
    for c in SCALARS:
        flags[c] = class_of[c]
        collapsed = collapse.normalize_str(chr(c) * 2) == " "
        assert collapsed or collapse.normalize_str(chr(c) * 2) == chr(c) * 2
        low = lower.normalize_str(chr(c))
        if low != chr(c):
            assert len(low) <= 2
            lowers.append((c, ord(low[0]), ord(low[1]) if len(low) == 2 else 0))
        flags[c] |= (FLAG_COLLAPSE * collapsed | FLAG_WORD * (c in word) | FLAG_STRIP * (c in strip)
                     | FLAG_NFC * (c in nfc_set) | FLAG_LOWER * (low != chr(c)))
    blocks, index = {}, []
    for at in range(0, 0x110000, BLOCK):
        index.append(blocks.setdefault(bytes(flags[at:at + BLOCK]), len(blocks)))
    data = struct.pack("<4sIII", b"DRUT", 1, len(blocks), len(lowers))
    data += struct.pack(f"<{len(index)}H", *index) + b"".join(blocks)
    data += b"".join(struct.pack("<III", *entry) for entry in lowers)
    target = pathlib.Path(sys.argv[1]) / "unicode.tbl.zst"
    subprocess.run(["zstd", "--ultra", "-22", "-q", "-f", f"--stream-size={len(data)}",
                    "-o", str(target)], input=data, check=True)
    counts = [sum(1 for c in SCALARS if class_of[c] == k) for k in range(4)]
    print(f"{target}: {len(blocks)} blocks, {len(lowers)} lower-case mappings, "
          f"{target.stat().st_size} bytes; other/letter/number/space {counts}, "
          f"word {len(word)}, strip {len(strip)}, "
          f"collapse {sum(1 for f in flags if f & FLAG_COLLAPSE)}, composing {len(nfc_set)}")


if __name__ == "__main__":
    main()
