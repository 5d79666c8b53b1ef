#!/usr/bin/env python3
"""Vectors of a tiny autoencoder from diffusers' AutoencoderTiny: tiny_vae.py OUTPUT.

A small network with random weights, and what it decodes and encodes, in float32. Pinned versions are
in requirements.txt.
"""
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny


def main():
    out = Path(sys.argv[1])
    torch.manual_seed(12)
    vae = AutoencoderTiny(
        encoder_block_out_channels=(9, 9, 9),
        decoder_block_out_channels=(9, 9, 9),
        num_encoder_blocks=(1, 2, 1),
        num_decoder_blocks=(2, 1, 1),
    )
    with torch.no_grad():
        for p in vae.parameters():  # the initial values of diffusers shrink from layer to layer
            p.copy_(torch.randn(p.shape) * (0.13 if p.ndim > 1 else 0.2))
    vae.eval().save_pretrained(out)
    with torch.no_grad():
        latents = torch.randn(2, 4, 5, 7) * 2
        image = torch.rand(2, 3, 20, 28) * 2 - 1
        arrays = {
            "latents": latents,
            "decoded": vae.decode(latents).sample,
            "image": image,
            "encoded": vae.encode(image).latents,
        }
    for name, value in arrays.items():
        print(name, list(value.shape), float(value.std()))
        np.save(out / f"{name}.npy", value.numpy())


if __name__ == "__main__":
    main()
