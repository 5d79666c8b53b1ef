"""SDXL's networks at full size with random weights, for the peers' processes.

Matrices have variance 1 / fan-in, norms are near 1 and biases near 0, as in tools/make_sdxl_checkpoint.py, so that
activations stay finite in every precision: infinities and denormals would be timed otherwise.
"""
import os
import sys

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import sdxl  # noqa: E402

BLOCK = 1 << 24  # random numbers drawn once, laid over all weights from a moving start
TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def fill(model, dtype):
    """Gives a model of the meta device random weights of dtype."""
    source = torch.randn(BLOCK, generator=torch.Generator().manual_seed(1))
    model = model.to(dtype).to_empty(device="cpu")
    at = 0
    for parameter in model.parameters():
        flat = parameter.data.view(-1)
        scale, mean = (parameter[0].numel() ** -0.5, 0.0) if parameter.dim() > 1 else (0.02, 0.0)
        for first in range(0, flat.numel(), BLOCK):
            part = flat[first : first + BLOCK]
            start = at % max(1, BLOCK - part.numel() + 1)
            part.copy_(source[start : start + part.numel()] * scale + mean)
            at += 7919
    for name, parameter in model.named_parameters():
        if "norm" in name and name.endswith("weight"):
            parameter.data.add_(1)
    return model.eval().requires_grad_(False)


def unet(dtype):
    with torch.device("meta"):
        model = UNet2DConditionModel(**sdxl.UNET)
    return fill(model, dtype)


def vae(dtype):
    with torch.device("meta"):
        model = AutoencoderKL(**sdxl.VAE)
    model.encoder = None
    return fill(model, dtype)


def unet_inputs(size, batch, dtype):
    """sample, timestep, text, pooled, ids: every row different."""
    edge = size // 8
    return (
        torch.randn(batch, 4, edge, edge).to(dtype),
        torch.tensor(500.0),
        torch.randn(batch, 77, 2048).to(dtype),
        torch.randn(batch, 1280).to(dtype),
        torch.tensor([[size, size, 0, 0, size, size]] * batch).to(dtype),
    )


def case(name):
    """("unet" | "vae", size, batch) of a case's name."""
    words = name.split("_")
    size = int(next(word for word in words if word.isdigit()))
    return words[0], size, 2 if words[-1] == "cfg" else 1
