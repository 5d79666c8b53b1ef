#!/usr/bin/env python3
"""Textual inversions with the small random model, as diffusers loads them.

    python3 tools/golden/embeddings.py testing/golden/odd/model testing/golden/embeddings

Made with torch 2.15.0, diffusers 0.42.1, transformers 5.23.0, safetensors 0.8.0, numpy 2.4.6. The folder gets three
files of random vectors:

sea-style.safetensors    clip_l [2, 28], clip_g [3, 40]: a pair for the two text encoders, several vectors each
bad-hand.safetensors     emb_params [4, 28], as AUTOMATIC1111 writes it: for the first encoder only
learned.safetensors      "<cat>" [40], as diffusers writes it, float16: for the second encoder only

and for each of CASES NAME_text.npy [rows, 77, 68] and NAME_pooled.npy [rows, 44], the negative row first, from
load_textual_inversion and encode_prompt. `cut` is longer than a text may be and ends within an embedding.
"""
import os
import sys

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import save_file

CASES = {
    "both": ("a <sea-style> photo of the red <cat>, <sea-style>", "bad-hand"),
    "cut": ("the small red circle " * 16 + "the old <sea-style>", None),
}


def files(folder):
    torch.manual_seed(2022)
    pair = {"clip_l": torch.randn(2, 28), "clip_g": torch.randn(3, 40)}
    single, learned = torch.randn(4, 28), torch.randn(40).half()
    save_file(pair, os.path.join(folder, "sea-style.safetensors"), {"modelspec.title": "sea style"})
    save_file({"emb_params": single}, os.path.join(folder, "bad-hand.safetensors"))
    save_file({"<cat>": learned}, os.path.join(folder, "learned.safetensors"))
    return pair, single, learned.float()


def main(model, folder):
    os.makedirs(folder, exist_ok=True)
    pipe = StableDiffusionXLPipeline.from_pretrained(model)
    pair, single, learned = files(folder)
    first = {"tokenizer": pipe.tokenizer, "text_encoder": pipe.text_encoder}
    second = {"tokenizer": pipe.tokenizer_2, "text_encoder": pipe.text_encoder_2}
    pipe.load_textual_inversion(pair["clip_l"], token="<sea-style>", **first)
    pipe.load_textual_inversion(pair["clip_g"], token="<sea-style>", **second)
    pipe.load_textual_inversion(single, token="bad-hand", **first)
    pipe.load_textual_inversion({"<cat>": learned[None]}, **second)
    for name, (prompt, negative) in CASES.items():
        guided = negative is not None
        with torch.no_grad():
            text, no_text, pooled, no_pooled = pipe.encode_prompt(prompt, negative_prompt=negative,
                                                                  do_classifier_free_guidance=guided)
        text = torch.cat([no_text, text]) if guided else text
        pooled = torch.cat([no_pooled, pooled]) if guided else pooled
        np.save(os.path.join(folder, f"{name}_text.npy"), text.float().numpy())
        np.save(os.path.join(folder, f"{name}_pooled.npy"), pooled.float().numpy())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
