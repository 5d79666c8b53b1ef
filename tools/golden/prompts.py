#!/usr/bin/env python3
"""Prompts with weights on the small random model, in the languages of AUTOMATIC1111 and ComfyUI.

    python3 tools/golden/prompts.py testing/golden/odd/model testing/golden/prompts

Made with torch 2.15.0, diffusers 0.42.1, transformers 5.23.0, numpy 2.4.6. Neither program is a package, so this is the
published rule written anew on top of transformers: of AUTOMATIC1111 parse_prompt_attention (modules/prompt_parser.py),
tokenize_line (modules/sd_hijack_clip.py) and the classes of modules/sd_emphasis.py; of ComfyUI token_weights and
tokenize_with_weights (comfy/sd1_clip.py). A case gives NAME_text.npy, every THIRD token's hidden states of the encoders
side by side, NAME_pooled.npy, of the first chunk, and NAME_ids.npy, the first tokenizer's chunks.
"""
import os
import sys

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline

THIRD = 3
LONG = "a red circle, " * 14 + "the small blue square and a green triangle (over the old:1.4) sea, " + "a (dog:0.7), " * 12
CASES = {
    "a1111": ("a1111", "original", r"a (red:1.3) ball, [small] \(x\) ((green)) BREAK the (sea [old:1.1) dog"),
    "a1111_long": ("a1111", "no_norm", LONG),
    "comfyui": ("comfyui", None, r"a (red:1.3) ball ((green:0.5) tree:1.2) [x] \(old\) " + LONG),
}


def a1111_spans(text):
    """[words, weight] or None for BREAK."""
    spans, stack, i, word = [], {"(": [], "[": []}, 0, ""

    def flush():
        nonlocal word
        for n, part in enumerate(word.split("BREAK")):
            part = part.rstrip() if n < word.count("BREAK") else part
            if n:
                spans.append(None)
                part = part.lstrip()
            spans.append([part, 1.0])
        word = ""

    def times(first, factor):
        for span in spans[first:]:
            if span:
                span[1] *= factor

    while i < len(text):
        c = text[i]
        rest = text[i + 1:]
        if c == "\\":
            flush()
            if rest[:1] and rest[0] in "\\()[]":
                spans.append([rest[0], 1.0])
                i += 1
        elif c in "([":
            flush()
            stack[c].append(len(spans))
        elif c == ":" and stack["("] and ")" in rest and rest[:rest.index(")")].replace(".", "").isdigit():
            flush()
            times(stack["("].pop(), float(rest[:rest.index(")")]))
            i += 1 + rest.index(")")
        elif c in ")]" and stack["(" if c == ")" else "["]:
            flush()
            times(stack["(" if c == ")" else "["].pop(), 1.1 if c == ")" else 1 / 1.1)
        else:
            word += c
        i += 1
    flush()
    for kind, factor in (("(", 1.1), ("[", 1 / 1.1)):
        for first in stack[kind]:
            times(first, factor)
    merged = []
    for span in spans:
        if span and merged and merged[-1] and merged[-1][1] == span[1]:
            merged[-1][0] += span[0]
        else:
            merged.append(span)
    return merged


def comfyui_spans(text, weight=1.0):
    spans, depth, begin = [], 0, 0
    hidden = text.replace("\\(", "\0\1").replace("\\)", "\0\2")

    def item(part):
        if part.startswith("(") and part.endswith(")"):
            inner, own = part[1:-1], weight * 1.1
            head, colon, tail = inner.rpartition(":")
            if colon and head:
                try:
                    inner, own = head, float(tail) if ")" not in tail else own
                except ValueError:
                    inner = part[1:-1]
            spans.extend(comfyui_spans(inner, own))
        elif part:
            spans.append([part.replace("\0\1", "(").replace("\0\2", ")"), weight])

    for i, c in enumerate(hidden):
        if c == "(":
            if not depth:
                item(hidden[begin:i])
                begin = i
            depth += 1
        elif c == ")":
            depth -= 1
            if not depth:
                item(hidden[begin:i + 1])
                begin = i + 1
    item(hidden[begin:])
    return spans


def tokens_of(tokenizer, words):
    return tokenizer(words, add_special_tokens=False)["input_ids"]


def a1111_chunks(tokenizer, spans):
    comma = tokens_of(tokenizer, ",")[0]
    chunks, now, last = [], [], None
    for span in spans:
        if span is None:
            chunks.append(now)
            now, last = [], None
            continue
        for token in tokens_of(tokenizer, span[0]):
            if token == comma:
                last = len(now)
            elif len(now) == 75 and last is not None and len(now) - last <= 20:
                chunks.append(now[:last + 1])
                now, last = now[last + 1:], None
            if len(now) == 75:
                chunks.append(now)
                now, last = [], None
            now.append((token, span[1]))
    return chunks + [now] if now or not chunks else chunks


def comfyui_chunks(tokenizer, spans):
    chunks, now = [], []
    for words, weight in spans:
        group = [(token, weight) for token in tokens_of(tokenizer, words)]
        large = len(group) >= 8
        while len(group) > 75 - len(now):
            take = 75 - len(now) if large else 0
            chunks.append(now + group[:take])
            now, group = [], group[take:]
        now = now + group
    return chunks + [now]


def padded(tokenizer, chunk):
    ids = [tokenizer.bos_token_id] + [t for t, _ in chunk] + [tokenizer.eos_token_id]
    weights = [1.0] + [w for _, w in chunk] + [1.0]
    return (ids + [tokenizer.pad_token_id] * (77 - len(ids)), weights + [1.0] * (77 - len(weights)))


def states(encoder, ids):
    with torch.no_grad():
        out = encoder(torch.tensor([ids]), output_hidden_states=True)
    return out.hidden_states[-2][0], out[0][0]


def encode(tokenizer, encoder, program, emphasis, text):
    spans = a1111_spans(text) if program == "a1111" else comfyui_spans(text)
    chunks = (a1111_chunks if program == "a1111" else comfyui_chunks)(tokenizer, spans)
    empty = states(encoder, padded(tokenizer, [])[0])[0]
    parts, pooled, all_ids = [], None, []
    for chunk in chunks:
        ids, weights = padded(tokenizer, chunk)
        z, p = states(encoder, ids)
        w = torch.tensor(weights)[:, None]
        if program == "comfyui":
            z = torch.where(w != 1, (z - empty) * w + empty, z)
        else:
            mean = z.mean()
            z = z * w
            z = z * (mean / z.mean()) if emphasis == "original" else z
        parts.append(z)
        all_ids.append(ids)
        pooled = p if pooled is None else pooled
    return torch.cat(parts), pooled, all_ids


def main(model, folder):
    os.makedirs(folder, exist_ok=True)
    pipe = StableDiffusionXLPipeline.from_pretrained(model)
    for name, (program, emphasis, text) in CASES.items():
        a, _, ids = encode(pipe.tokenizer, pipe.text_encoder, program, emphasis, text)
        b, pooled, _ = encode(pipe.tokenizer_2, pipe.text_encoder_2, program, emphasis, text)
        np.save(os.path.join(folder, f"{name}_text.npy"), torch.cat([a, b], 1)[::THIRD].contiguous().float().numpy())
        np.save(os.path.join(folder, f"{name}_pooled.npy"), pooled.float().numpy())
        np.save(os.path.join(folder, f"{name}_ids.npy"), np.array(ids, np.int32))
        print(name, a.shape, len(ids))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
