#!/usr/bin/env python3
"""Makes testing/golden/tokenizer/ from the reference tokenizer.

    python tokenizer.py bpe_simple_vocab_16e6.txt.gz ../../testing/golden/tokenizer [SEED]

Needs transformers 5.23.0, tokenizers 0.23.3 and the `zstd` program; the first argument is the file that
tools/make_clip_table/ starts from. Writes

    scalars.bin       for each 1,024 scalar values, hashes of the ids of each alone and between letters
    strings.bin.zst   generated strings with their ids, for the built-in tables and for each folder
    folders/NAME/     small tokenizer folders that use every way of giving added tokens

The same seed (0) gives the same strings. testing/unit/test_models_tokenizer.c reads all three.
"""
import array
import gzip
import json
import pathlib
import random
import struct
import subprocess
import sys

import tokenizers
import transformers
from transformers import CLIPTokenizer

PINNED = {"transformers": "5.23.0", "tokenizers": "0.23.3"}
BOS, EOS = "<|startoftext|>", "<|endoftext|>"
BLOCK = 1024
WORDS = """a an the of in on and with photo portrait painting drawing castle cat dog robot astronaut mountain
river city night sunset neon cyberpunk watercolor oil masterpiece best quality highly detailed 8k uhd hdr
artstation trending by greg rutkowski alphonse mucha studio lighting bokeh 35mm f1.8 iso100 vintage red blue
green circle square triangle left right above below cinematic wide-angle close-up it's don't they're we've
I'm you'll he'd O'Reilly rock'n'roll naïve café Über straße façade niño Ångström résumé Zürich coöperate
пейзаж собака ЗАКАТ Ленинград γάτα ΘΑΛΑΣΣΑ Σίσυφος 猫 犬が走る 風景画 고양이 서울의밤 한국어 قطة جميلة חתול बिल्ली கதை
แมว ภาพถ่าย ქართული ՀԱՅԵՐԵՆ İstanbul ılık DŽungla ǅ ﬁnal ﬀ ẞ ſ Ω Å K ℵ ½ ² ① Ⅳ ٣ 四 १२३ 12345 3.14 -7
supercalifragilisticexpialidocious (masterpiece:1.3) [blurry] <lora:foo:0.8> BREAK embedding:bad""".split()
JOINERS = [" "] * 12 + ["  ", ", ", ", ", ". ", "-", "_", "", "\n", "\t", "\u00a0", "\u3000", "\u2028",
                        "\u200b", "\u200d", "!", "!!", " ! ", "'", "\u2019", "\r\n", "\x85", "\x1c"]
MARKS = [c for a, b in ((0x300, 0x370), (0x483, 0x488), (0x591, 0x5BE), (0x64B, 0x660), (0x93C, 0x93D),
                        (0x1DC0, 0x1E00), (0x20D0, 0x20F1), (0x302A, 0x3030), (0x3099, 0x309B),
                        (0x1D165, 0x1D16A), (0x9BE, 0x9BF), (0xDCF, 0xDD0)) for c in range(a, b)]
BASES = [ord(c) for c in "aAeEiIoOuUnNyYsSdDωΩαΑиИかキカハক"] + [0x1100, 0x1161, 0x11A8, 0xAC00, 0xAC01,
                                                                  0x915, 0x928, 0xDD9, 0x212B, 0x1112, 0x1175]


def scalar(rng):
    while True:
        c = rng.randrange(0x110000)
        if not 0xD800 <= c < 0xE000:
            return c


def near_scalar(rng):
    """Mostly assigned ones: the first planes' denser parts."""
    low, high = rng.choice(((0, 0x80), (0x80, 0x250), (0x250, 0x600), (0x600, 0x1000), (0x1000, 0x2000),
                            (0x2000, 0x3400), (0xA000, 0xD7A4), (0xF900, 0x10000), (0x10000, 0x11800),
                            (0x1D000, 0x1F000), (0x1F000, 0x1FB00), (0x2F800, 0x2FA20), (0xE0000, 0xE0200)))
    return rng.randrange(low, high)


def cased(rng, text):
    return rng.choice((text, text, text.upper(), text.title(), text.swapcase()))


def text_prompt(rng):
    out = ""
    for _ in range(rng.randint(1, 14)):
        out += cased(rng, rng.choice(WORDS)) + rng.choice(JOINERS)
    return out


def text_scalars(rng):
    pick = rng.choice((scalar, near_scalar, near_scalar))
    return "".join(chr(pick(rng)) + rng.choice(("", "", "a", " ", "1")) for _ in range(rng.randint(1, 12)))


def text_marks(rng):
    out = []
    for _ in range(rng.randint(1, 8)):
        out.append(chr(rng.choice(BASES)) if rng.random() < 0.8 else chr(near_scalar(rng)))
        out += [chr(rng.choice(MARKS)) for _ in range(rng.choice((0, 1, 1, 2, 3, 20)))]
    return "".join(out)


def text_hangul(rng):
    jamo = list(range(0x1100, 0x1113)) + list(range(0x1160, 0x1177)) + list(range(0x11A7, 0x11C4))
    return "".join(chr(rng.choice(jamo) if rng.random() < 0.6 else rng.randrange(0xAC00, 0xD7A4))
                   for _ in range(rng.randint(1, 12)))


def text_ascii(rng):
    return "".join(chr(rng.randrange(128)) for _ in range(rng.randint(0, 40)))


def text_special(rng):
    tokens = [BOS, EOS, BOS.upper(), EOS.title(), "<|", "|>", "<|endoftext", "startoftext|>", "!", "<|end", "'s"]
    return "".join(rng.choice((rng.choice(tokens), rng.choice(tokens), rng.choice(WORDS), rng.choice(JOINERS)))
                   for _ in range(rng.randint(1, 10)))


def text_space(rng):
    spaces = "\t\n\v\f\r \x1c\x1d\x1e\x1f\x85\xa0\u1680\u180e\u2000\u200a\u200b\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
    return "".join(rng.choice(spaces) if rng.random() < 0.7 else rng.choice(WORDS)
                   for _ in range(rng.randint(0, 12)))


def text_long(rng):
    alphabet = rng.choice(("ab", "abcdefghij", "éa", "!?.", "猫犬", "0123456789"))
    return "".join(rng.choice(alphabet) for _ in range(rng.randint(50, 400)))


KINDS = [text_prompt] * 8 + [text_scalars] * 5 + [text_marks] * 4 + [text_hangul, text_ascii, text_ascii,
                                                                  text_special, text_special, text_space]


def clip_table(source):
    """Vocabulary and merges as OpenAI's clip/simple_tokenizer.py builds them."""
    lines = gzip.open(source, "rt", encoding="utf-8").read().split("\n")[1:49152 - 256 - 2 + 1]
    printable = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    rest = [b for b in range(256) if b not in printable]
    chars = [chr(b) for b in printable] + [chr(256 + i) for i in range(len(rest))]
    merges = [tuple(line.split(" ")) for line in lines]
    tokens = chars + [c + "</w>" for c in chars] + ["".join(m) for m in merges] + [BOS, EOS]
    return {token: i for i, token in enumerate(tokens)}, merges


def train(words, n, symbols):
    """A few merges by plain BPE training, for the folders."""
    split = [list(w[:-1]) + [w[-1] + "</w>"] for w in words if w and all(c in symbols for c in w)]
    merges = []
    for _ in range(n):
        counts = {}
        for w in split:
            for pair in zip(w, w[1:]):
                counts[pair] = counts.get(pair, 0) + 1
        best = max(sorted(counts), key=lambda p: counts[p])
        merges.append(best)
        for w in split:
            i = 0
            while i + 1 < len(w):
                if (w[i], w[i + 1]) == best:
                    w[i:i + 2] = [w[i] + w[i + 1]]
                i += 1
    return merges


def token(content, **flags):
    return dict({"content": content, "lstrip": False, "normalized": False, "rstrip": False,
                 "single_word": False, "special": False}, **flags)


def typed(content, **flags):
    out = dict({"__type": "AddedToken"}, **token(content, **flags))
    del out["special"]
    return out


# Each way in which the files of a folder can name tokens. "files" beyond the vocabulary are JSON.
DECODER = {"0": token(BOS, special=True), "1": token(EOS, special=True, normalized=True),
           "300": token("Fox", normalized=True), "301": token("<left>", lstrip=True),
           "302": token("<right>", rstrip=True), "303": token("<both>", lstrip=True, rstrip=True),
           "304": token("word", single_word=True), "305": token("WORDY", normalized=True, single_word=True),
           "306": token("  "), "307": token("<le"), "308": token("<left> <right>", special=True),
           "309": token("É", normalized=True), "310": token("cat", normalized=True, lstrip=True),
           "20": token("ring", normalized=False)}
FOLDERS = {
    "plain": {},
    "legacy": {"tokenizer_config.json": {
        "bos_token": typed(BOS, normalized=True), "eos_token": typed(EOS, normalized=True),
        "unk_token": typed(EOS, normalized=True), "pad_token": EOS, "model_max_length": 77,
        "do_lower_case": True, "errors": "replace", "add_prefix_space": False, "tokenizer_class": "CLIPTokenizer"},
        "special_tokens_map.json": {"bos_token": {"content": BOS, "lstrip": True, "normalized": True,
                                                  "rstrip": False, "single_word": False}, "pad_token": "!"}},
    "decoder": {"tokenizer_config.json": {"added_tokens_decoder": DECODER, "pad_token": "!",
                                          "bos_token": BOS, "eos_token": EOS, "unk_token": EOS,
                                          "additional_special_tokens": ["<Extra>", "cat"],
                                          "image_token": "<image>", "model_max_length": 48},
                "special_tokens_map.json": {"pad_token": "ignored"}},
    "extra": {"tokenizer_config.json": {"model_max_length": int(1e30), "pad_token": "!"},
              "special_tokens_map.json": {"mask_token": token("<mask>", lstrip=True),
                                          "additional_special_tokens": ["<one>", "<two>", "cat"]},
              "added_tokens.json": {"<Zed>": 500, "fox": 499, "<mask>": 498, "<one>": 497}},
    "whole": {"tokenizer.json": [token("<Fox>", id=901, normalized=True), token(BOS, id=0, special=True),
                                 token(EOS, id=1, special=True), token("riv", id=900, single_word=False)]},
    "both": {"tokenizer.json": [token("<ignored>", id=901)],
             "tokenizer_config.json": {"added_tokens_decoder": {"7": token("<kept>", special=True)},
                                       "extra_special_tokens": {"boi_token": "<boi>"}, "cls_token": "<cls>"}},
    "mixed": {"tokenizer_config.json": {
        "bos_token": {"__type": "AddedToken", "content": "Fox"}, "image_token": "<one>",
        "sep_token": {"__type": "AddedToken", "content": "ring", "rstrip": True},
        "extra_special_tokens": {"q_token": "<Extra>"},
        "additional_special_tokens": ["<two>", "  "], "model_max_length": 77},
        "special_tokens_map.json": {"foo_token": {"content": "word", "single_word": True},
                                    "pad_token": "!", "bar_token": "<mask>"},
        "added_tokens.json": {"ring": 400, BOS: 401, "!": 402, "<Zed>": 403}},
}
FOLDER_WORDS = ["Fox", "fox", "FOX", "<fox>", "<Fox>", "<left>", "<right>", "<both>", "word", "words", "WORDY",
                "wordy", "wordyé", "  ", "   ", "<le", "<left> <right>", "é", "É", "e\u0301", "E\u0301", "cat", "Cat",
                " cat", "ring", "RING", "string", "!", "!!", BOS, EOS, BOS.upper(), EOS.upper(), "<Extra>", "<extra>",
                "<image>", "<mask>", " <mask> ", "<one>", "<two>", "<Zed>", "<zed>", "riv", "river", "<kept>",
                "<boi>", "<cls>", "<ignored>", "castle", "mountain", " ", " ", " ", "\t", "\u3000", "\u0301", "_", "1"]


def text_folder(rng):
    return "".join(rng.choice(FOLDER_WORDS) for _ in range(rng.randint(0, 12)))


def write_folders(root):
    symbols = [chr(c) for c in range(33, 127)]
    merges = train([w.lower() for w in WORDS], 90, symbols)
    tokens = [BOS, EOS] + symbols + [s + "</w>" for s in symbols] + ["".join(m) for m in merges]
    vocab = {t: i for i, t in enumerate(tokens)}
    for name, files in FOLDERS.items():
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        end = "\r\n" if name == "legacy" else "\n"
        if "tokenizer.json" in files:
            pairs = [list(m) for m in merges] if name == "whole" else [" ".join(m) for m in merges]
            files = dict(files, **{"tokenizer.json": {
                "version": "1.0", "truncation": None, "padding": None, "added_tokens": files["tokenizer.json"],
                "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None,
                "model": {"type": "BPE", "dropout": None, "unk_token": EOS, "vocab": vocab, "merges": pairs}}})
        else:
            (folder / "vocab.json").write_text(json.dumps(vocab) + "\n")
            (folder / "merges.txt").write_bytes(("#version: 0.2" + end + "".join(
                " ".join(m) + end for m in merges)).encode())
        for file, content in files.items():
            (folder / file).write_text(json.dumps(content, indent=1, ensure_ascii=True) + "\n")


def encode(tok, texts):
    backend = tok.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    return [e.ids for e in backend.encode_batch(texts, add_special_tokens=False)]


def check_padding(tok, texts, ids):
    """The rule that the engine follows is the reference's."""
    n = 77
    for text, raw in list(zip(texts, ids))[:400]:
        padded = tok(text, padding="max_length", max_length=n, truncation=True).input_ids
        rule = [tok.bos_token_id] + raw[:n - 2] + [tok.eos_token_id]
        assert padded == rule + [tok.pad_token_id] * (n - len(rule)), text


def pack_set(name, tok, texts):
    ids = encode(tok, texts)
    check_padding(tok, texts, ids)
    length = tok.model_max_length if tok.model_max_length < 1 << 20 else 77
    out = struct.pack("<B", len(name)) + name.encode()
    out += struct.pack("<6iI", tok.vocab_size, tok.bos_token_id, tok.eos_token_id, tok.pad_token_id,
                       tok.unk_token_id, length, len(texts))
    for text, raw in zip(texts, ids):
        data = text.encode("utf-8")
        out += struct.pack("<H", len(data)) + data
        out += struct.pack(f"<H{len(raw)}H", len(raw), *raw)
    print(f"{name}: {len(texts)} strings, {sum(map(len, ids))} ids")
    return out


def strings(clip_l, clip_g, root, seed):
    rng = random.Random(seed)
    texts = ["", " ", "\n\t ", EOS, "<|ENDOFTEXT|>", "wow!!! it", "a" * 3000, "\0", "\0a\0"]
    texts += [rng.choice(KINDS)(rng) for _ in range(12000)] + [text_long(rng) for _ in range(40)]
    out = pack_set("1", clip_l, texts) + pack_set("2", clip_g, texts[:9] + [
        t for t in texts[9:] if "!" in t or rng.random() < 0.05])
    for name in FOLDERS:
        texts = [text_folder(rng) for _ in range(500)] + [text_special(rng) for _ in range(50)]
        texts += [text_marks(rng) for _ in range(50)] + [text_ascii(rng) for _ in range(50)]
        out += pack_set(name, CLIPTokenizer.from_pretrained(root / "folders" / name), texts)
    return struct.pack("<4sI", b"DRTV", 2 + len(FOLDERS)) + out


def fnv(h, values):
    for v in values:
        h = (h ^ v) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def scalar_hashes(tok):
    """Per block: FNV-1a over count and ids of each scalar, alone and as aXb; surrogates left out."""
    out = array.array("Q")
    for at in range(0, 0x110000, BLOCK):
        chars = [chr(c) for c in range(at, at + BLOCK) if not 0xD800 <= c < 0xE000]
        for texts in (chars, ["a" + c + "b" for c in chars]):
            h = 0xCBF29CE484222325
            for ids in encode(tok, texts) if texts else ():
                h = fnv(fnv(h, (len(ids),)), ids)
            out.append(h)
    return out.tobytes()


def main():
    for module in (transformers, tokenizers):
        if module.__version__ != PINNED[module.__name__]:
            sys.exit(f"{module.__name__} {module.__version__}, wanted {PINNED[module.__name__]}")
    source, root = sys.argv[1], pathlib.Path(sys.argv[2])
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    vocab, merges = clip_table(source)
    clip_l, clip_g = (CLIPTokenizer(vocab=vocab, merges=merges, pad_token=pad, model_max_length=77)
                      for pad in (EOS, "!"))
    write_folders(root / "folders")
    data = strings(clip_l, clip_g, root, seed)
    subprocess.run(["zstd", "--ultra", "-22", "-q", "-f", f"--stream-size={len(data)}",
                    "-o", str(root / "strings.bin.zst")], input=data, check=True)
    (root / "scalars.bin").write_bytes(scalar_hashes(clip_l))


if __name__ == "__main__":
    main()
