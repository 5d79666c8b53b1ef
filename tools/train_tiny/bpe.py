"""A byte-pair tokenizer of CLIP's kind, learned from the captions, as two diffusers tokenizer folders.

Byte level with "</w>" at the ends of words (Sennrich et al., 2016; the layout of CLIP's own tables): 256
bytes, 256 bytes that end a word, the merges, and the two special tokens last.
"""
import collections
import json
import os
import re

LIMIT = 2048
BOS, EOS = "<|startoftext|>", "<|endoftext|>"


def byte_symbols():
    """The printable character that stands for each byte: itself where it is printable, else one from 256 up."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in plain]
    return {**{b: chr(b) for b in plain}, **{b: chr(256 + i) for i, b in enumerate(others)}}


def pieces(caption):
    return re.findall(r"[^\W\d_]+|\d|[^\s\w]+", caption.lower())


def learn(texts):
    """Merges in order, most frequent pair first, ties by the pair itself; stops when every word is one symbol."""
    table = byte_symbols()
    counts = collections.Counter(p for t in texts for p in pieces(t))
    words = {}
    for word, n in counts.items():
        letters = [table[b] for b in word.encode("utf-8")]
        words[tuple(letters[:-1] + [letters[-1] + "</w>"])] = n
    merges = []
    while len(merges) + 512 + 2 < LIMIT:
        pairs = collections.Counter()
        for word, n in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += n
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        words = {joined(w, best): n for w, n in words.items()}
    return merges


def joined(word, pair):
    out, i = [], 0
    while i < len(word):
        if word[i:i + 2] == pair:
            out.append(pair[0] + pair[1])
            i += 2
        else:
            out.append(word[i])
            i += 1
    return tuple(out)


def write(folder, merges, pad):
    """One tokenizer folder whose padding token is pad."""
    os.makedirs(folder, exist_ok=True)
    symbols = list(byte_symbols().values())
    entries = symbols + [s + "</w>" for s in symbols] + [a + b for a, b in merges] + [BOS, EOS]
    assert len(set(entries)) == len(entries) <= LIMIT
    with open(os.path.join(folder, "vocab.json"), "w", encoding="utf-8") as f:
        json.dump({e: i for i, e in enumerate(entries)}, f, ensure_ascii=False)
    with open(os.path.join(folder, "merges.txt"), "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))

    def token(text):
        return {"content": text, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}

    special = {"bos_token": token(BOS), "eos_token": token(EOS), "pad_token": pad, "unk_token": token(EOS)}
    config = {"add_prefix_space": False, "do_lower_case": True, "errors": "replace", "model_max_length": 77,
              "tokenizer_class": "CLIPTokenizer"}
    for name, doc in (("special_tokens_map.json", special),
                      ("tokenizer_config.json", {**config, **{k: v for k, v in special.items() if k != "pad_token"},
                                                 "pad_token": pad})):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
            f.write(json.dumps(doc, indent=2) + "\n")
    return len(entries)
