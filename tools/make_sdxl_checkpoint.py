#!/usr/bin/env python3
"""Write a checkpoint of SDXL's real size and shape with random weights.

    tools/make_sdxl_checkpoint.py model.safetensors [--kind base|refiner] [--dtype f16|bf16|f32] [--seed N]

Speed, memory and agreement with other programs need the real shapes, not trained weights. The file has the key layout
of Stability AI's single-file releases ("sgm"). Matrices are drawn from a normal distribution with variance 1 / fan-in, norms
near 1, biases near 0, so activations stay finite. Needs numpy; takes a few minutes and 7 GB of disk (f16).
"""
import argparse
import json
import math
import struct

import numpy as np

PIECE = 1 << 22  # elements drawn at a time

CLIP_L = dict(width=768, mlp=3072, layers=12)
CLIP_G = dict(width=1280, mlp=5120, layers=32, projection=1280)
VOCABULARY, POSITIONS = 49408, 77
UNETS = {
    # depth: transformer blocks after each resnet of a level; added: pooled text and time ids of 256 each
    "base": dict(channels=(320, 640, 1280), depth=(0, 2, 10), middle=10, context=2048, added=1280 + 6 * 256),
    "refiner": dict(channels=(384, 768, 1536, 1536), depth=(0, 4, 4, 0), middle=4, context=1280, added=1280 + 5 * 256),
}
VAE = dict(channels=(128, 256, 512, 512), layers=2, latent=4)


class Tensors:
    """The list of what the file holds: (name, shape, standard deviation, mean)."""

    def __init__(self):
        self.list = []

    def add(self, name, shape, deviation, mean=0.0):
        self.list.append((name, tuple(shape), deviation, mean))

    def linear(self, name, out, inner, bias=True):
        self.add(f"{name}.weight", (out, inner), inner**-0.5)
        if bias:
            self.add(f"{name}.bias", (out,), 0.02)

    def conv(self, name, out, inner, kernel):
        self.add(f"{name}.weight", (out, inner, kernel, kernel), (inner * kernel * kernel) ** -0.5)
        self.add(f"{name}.bias", (out,), 0.02)

    def norm(self, name, channels):
        self.add(f"{name}.weight", (channels,), 0.02, 1.0)
        self.add(f"{name}.bias", (channels,), 0.02)


def clip_l(t, at, width, mlp, layers):
    t.add(f"{at}.embeddings.token_embedding.weight", (VOCABULARY, width), 0.02)
    t.add(f"{at}.embeddings.position_embedding.weight", (POSITIONS, width), 0.01)
    for i in range(layers):
        layer = f"{at}.encoder.layers.{i}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            t.linear(f"{layer}.self_attn.{name}", width, width)
        t.norm(f"{layer}.layer_norm1", width)
        t.linear(f"{layer}.mlp.fc1", mlp, width)
        t.linear(f"{layer}.mlp.fc2", width, mlp)
        t.norm(f"{layer}.layer_norm2", width)
    t.norm(f"{at}.final_layer_norm", width)


def open_clip(t, at, width, mlp, layers, projection):
    t.add(f"{at}.token_embedding.weight", (VOCABULARY, width), 0.02)
    t.add(f"{at}.positional_embedding", (POSITIONS, width), 0.01)
    for i in range(layers):
        block = f"{at}.transformer.resblocks.{i}"
        t.norm(f"{block}.ln_1", width)
        t.add(f"{block}.attn.in_proj_weight", (3 * width, width), width**-0.5)
        t.add(f"{block}.attn.in_proj_bias", (3 * width,), 0.02)
        t.linear(f"{block}.attn.out_proj", width, width)
        t.norm(f"{block}.ln_2", width)
        t.linear(f"{block}.mlp.c_fc", mlp, width)
        t.linear(f"{block}.mlp.c_proj", width, mlp)
    t.norm(f"{at}.ln_final", width)
    t.add(f"{at}.text_projection", (width, projection), width**-0.5)
    t.add(f"{at}.logit_scale", (), 0.0, 4.6)


def resnet(t, at, inner, out, time):
    t.norm(f"{at}.in_layers.0", inner)
    t.conv(f"{at}.in_layers.2", out, inner, 3)
    t.linear(f"{at}.emb_layers.1", out, time)
    t.norm(f"{at}.out_layers.0", out)
    t.conv(f"{at}.out_layers.3", out, out, 3)
    if inner != out:
        t.conv(f"{at}.skip_connection", out, inner, 1)


def transformer(t, at, width, depth, context):
    t.norm(f"{at}.norm", width)
    t.linear(f"{at}.proj_in", width, width)
    for i in range(depth):
        block = f"{at}.transformer_blocks.{i}"
        for name, source in (("attn1", width), ("attn2", context)):
            t.linear(f"{block}.{name}.to_q", width, width, bias=False)
            t.linear(f"{block}.{name}.to_k", width, source, bias=False)
            t.linear(f"{block}.{name}.to_v", width, source, bias=False)
            t.linear(f"{block}.{name}.to_out.0", width, width)
        t.linear(f"{block}.ff.net.0.proj", 8 * width, width)
        t.linear(f"{block}.ff.net.2", width, 4 * width)
        for i_norm in (1, 2, 3):
            t.norm(f"{block}.norm{i_norm}", width)
    t.linear(f"{at}.proj_out", width, width)


def unet(t, at, channels, depth, middle, context, added, layers=2):
    first, last = channels[0], len(channels) - 1
    time = 4 * first
    for name, inner in (("time_embed", first), ("label_emb.0", added)):
        t.linear(f"{at}.{name}.0", time, inner)
        t.linear(f"{at}.{name}.2", time, time)
    t.conv(f"{at}.input_blocks.0.0", first, 4, 3)
    skips, width, block = [first], first, 0
    for level, out in enumerate(channels):
        for _ in range(layers):
            block += 1
            resnet(t, f"{at}.input_blocks.{block}.0", width, out, time)
            if depth[level]:
                transformer(t, f"{at}.input_blocks.{block}.1", out, depth[level], context)
            width = out
            skips.append(width)
        if level < last:
            block += 1
            t.conv(f"{at}.input_blocks.{block}.0.op", width, width, 3)
            skips.append(width)
    resnet(t, f"{at}.middle_block.0", width, width, time)
    transformer(t, f"{at}.middle_block.1", width, middle, context)
    resnet(t, f"{at}.middle_block.2", width, width, time)
    block = 0
    for level in range(last, -1, -1):
        for i in range(layers + 1):
            parts = 1
            resnet(t, f"{at}.output_blocks.{block}.0", width + skips.pop(), channels[level], time)
            width = channels[level]
            if depth[level]:
                transformer(t, f"{at}.output_blocks.{block}.1", width, depth[level], context)
                parts = 2
            if level and i == layers:
                t.conv(f"{at}.output_blocks.{block}.{parts}.conv", width, width, 3)
            block += 1
    t.norm(f"{at}.out.0", first)
    t.conv(f"{at}.out.2", 4, first, 3)


def vae_resnet(t, at, inner, out):
    t.norm(f"{at}.norm1", inner)
    t.conv(f"{at}.conv1", out, inner, 3)
    t.norm(f"{at}.norm2", out)
    t.conv(f"{at}.conv2", out, out, 3)
    if inner != out:
        t.conv(f"{at}.nin_shortcut", out, inner, 1)


def vae_middle(t, at, width):
    vae_resnet(t, f"{at}.mid.block_1", width, width)
    t.norm(f"{at}.mid.attn_1.norm", width)
    for name in ("q", "k", "v", "proj_out"):
        t.conv(f"{at}.mid.attn_1.{name}", width, width, 1)
    vae_resnet(t, f"{at}.mid.block_2", width, width)


def vae(t, at, channels, layers, latent):
    top, width = channels[-1], channels[0]
    here = f"{at}.encoder"
    t.conv(f"{here}.conv_in", width, 3, 3)
    for level, out in enumerate(channels):
        for i in range(layers):
            vae_resnet(t, f"{here}.down.{level}.block.{i}", width, out)
            width = out
        if level + 1 < len(channels):
            t.conv(f"{here}.down.{level}.downsample.conv", width, width, 3)
    vae_middle(t, here, top)
    t.norm(f"{here}.norm_out", top)
    t.conv(f"{here}.conv_out", 2 * latent, top, 3)
    here = f"{at}.decoder"
    t.conv(f"{here}.conv_in", top, latent, 3)
    vae_middle(t, here, top)
    for level in range(len(channels) - 1, -1, -1):
        for i in range(layers + 1):
            vae_resnet(t, f"{here}.up.{level}.block.{i}", width, channels[level])
            width = channels[level]
        if level:
            t.conv(f"{here}.up.{level}.upsample.conv", width, width, 3)
    t.norm(f"{here}.norm_out", width)
    t.conv(f"{here}.conv_out", 3, width, 3)
    t.conv(f"{at}.quant_conv", 2 * latent, 2 * latent, 1)
    t.conv(f"{at}.post_quant_conv", latent, latent, 1)


def to_bytes(values, dtype):
    if dtype == "bf16":  # round to nearest even on the upper half of the bits
        bits = values.view(np.uint32)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").tobytes()
    return values.astype({"f16": "<f2", "f32": "<f4"}[dtype]).tobytes()


def write(path, tensors, dtype, seed):
    width = {"f16": 2, "bf16": 2, "f32": 4}[dtype]
    header, at = {"__metadata__": {"made_by": "make_sdxl_checkpoint.py", "seed": str(seed)}}, 0
    for name, shape, _, _ in tensors.list:
        end = at + math.prod(shape) * width
        header[name] = {"dtype": dtype.upper(), "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    random = np.random.default_rng(seed)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, shape, deviation, mean in tensors.list:
            left = math.prod(shape)
            while left:
                n = min(left, PIECE)
                values = random.standard_normal(n, np.float32) * np.float32(deviation) + np.float32(mean)
                file.write(to_bytes(values, dtype))
                left -= n
    return at


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out")
    parser.add_argument("--kind", choices=("base", "refiner"), default="base")
    parser.add_argument("--dtype", choices=("f16", "bf16", "f32"), default="f16")
    parser.add_argument("--layout", choices=("sgm",), default="sgm")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tensors = Tensors()
    if options.kind == "base":
        clip_l(tensors, "conditioner.embedders.0.transformer.text_model", **CLIP_L)
    open_clip(tensors, f"conditioner.embedders.{int(options.kind == 'base')}.model", **CLIP_G)
    unet(tensors, "model.diffusion_model", **UNETS[options.kind])
    vae(tensors, "first_stage_model", **VAE)
    size = write(options.out, tensors, options.dtype, options.seed)
    print(f"{options.out}: {len(tensors.list)} tensors, {size / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
