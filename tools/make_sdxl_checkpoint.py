#!/usr/bin/env python3
"""Write a checkpoint of SDXL's real size and shape with random weights.

    tools/make_sdxl_checkpoint.py model.safetensors [--kind base|refiner] [--dtype f16|bf16|f32] [--seed N] [--stress]

Speed, memory and agreement with other programs need the real shapes, not trained weights. The file has the key layout
of Stability AI's single-file releases ("sgm"). Matrices are drawn from a normal distribution with variance 1 / fan-in, norms
near 1, biases near 0, so activations stay finite. Needs numpy; takes a few minutes and 7 GB of disk (f16).

--stress gives it what makes trained weights hard for 16-bit arithmetic. In the UNet one channel of 64 is 50 to 100 times
as large as its neighbours: behind every norm, in the stream of every transformer and between the two products of its feed-
forward; what reads such a channel weighs it a third as much as it is larger, so it counts for more than its neighbours, but
does not drown them. In the VAE's decoder all that adds to the residual stream is 16384 times as large, so that the stream
exceeds 1e5, more than float16 can hold; its norms take that out again.
"""
import argparse
import json
import math
import struct
import zlib

import numpy as np

import sdxl

PIECE = 1 << 22  # elements drawn at a time
OUTLIER, LEAST, MOST, HEARD = 64, 50, 100, 3  # --stress: one channel of, times as large, times as loud
STREAM = 16384  # --stress: times as large, of the VAE

CLIP_L = dict(width=sdxl.CLIP_L["hidden_size"], mlp=sdxl.CLIP_L["intermediate_size"],
              layers=sdxl.CLIP_L["num_hidden_layers"])
CLIP_G = dict(width=sdxl.CLIP_G["hidden_size"], mlp=sdxl.CLIP_G["intermediate_size"],
              layers=sdxl.CLIP_G["num_hidden_layers"], projection=sdxl.CLIP_G["projection_dim"])
VOCABULARY, POSITIONS = 49408, 77
UNETS = {
    # depth: transformer blocks after each resnet of a level; added: pooled text and time ids of 256 each
    "base": dict(channels=sdxl.UNET["block_out_channels"], depth=(0, 2, 10), middle=10,
                 context=sdxl.UNET["cross_attention_dim"],
                 added=sdxl.UNET["projection_class_embeddings_input_dim"]),
    "refiner": dict(channels=(384, 768, 1536, 1536), depth=(0, 4, 4, 0), middle=4, context=1280, added=1280 + 5 * 256),
}
VAE = dict(channels=sdxl.VAE["block_out_channels"], layers=sdxl.VAE["layers_per_block"],
           latent=sdxl.VAE["latent_channels"])


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


def outliers(channels, name):
    """Factors of the channels: 1, and for one of 64 between 50 and 100. The same name gives the same."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    factors = np.ones(channels, np.float32)
    chosen = random.choice(channels, channels // OUTLIER, replace=False)
    factors[chosen] = random.uniform(LEAST, MOST, len(chosen))
    return factors


def heard(factors):
    return np.where(factors > 1, HEARD / factors, 1).astype(np.float32)


class Stress:
    """By tensor: factors of its rows (outputs) and of its columns (inputs)."""

    def __init__(self, tensors):
        self.shapes = {name: shape for name, shape, _, _ in tensors.list}
        self.rows, self.columns = {}, {}
        for name in self.shapes:
            self.plan(name)

    def write(self, layer, factors):
        for part in ("weight", "bias"):
            self.rows[f"{layer}.{part}"] = factors

    def channel(self, writer, readers, rows=None):
        """Outliers in what `writer` puts out (its first `rows` channels) and `readers` take in."""
        count = self.shapes[f"{writer}.weight"][0]
        factors = outliers(rows or count, writer)
        self.write(writer, np.concatenate([factors, np.ones(count - len(factors), np.float32)]))
        for reader in readers:
            self.columns[f"{reader}.weight"] = heard(factors)

    def plan(self, name):
        at, _, leaf = name.rpartition(".")
        unet, decoder = at.startswith("model.diffusion_model."), at.startswith("first_stage_model.decoder.")
        if leaf != "weight":
            return
        if unet:
            following = {"in_layers.0": ["in_layers.2"], "out_layers.0": ["out_layers.3"], "norm": ["proj_in"],
                         "norm1": ["attn1.to_q", "attn1.to_k", "attn1.to_v"], "norm2": ["attn2.to_q"],
                         "norm3": ["ff.net.0.proj"], "proj_in": ["proj_out"]}
            for key, readers in following.items():
                if at.endswith("." + key):
                    self.channel(at, [f"{at[:-len(key)]}{reader}" for reader in readers])
            if at.endswith("ff.net.0.proj"):
                inner = self.shapes[name][0] // 2
                self.channel(at, [at[:-len("0.proj")] + "2"], inner)
        elif decoder and at.endswith(("decoder.conv_in", ".conv2", ".proj_out")):
            self.write(at, np.full(self.shapes[name][0], STREAM, np.float32))


def to_bytes(values, dtype):
    if dtype == "bf16":  # round to nearest even on the upper half of the bits
        bits = values.view(np.uint32)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").tobytes()
    return values.astype({"f16": "<f2", "f32": "<f4"}[dtype]).tobytes()


def scaled(values, shape, first, rows, columns):
    """A piece of a tensor, from its element `first` on, with its rows and columns multiplied."""
    at = np.arange(first, first + len(values))
    each = math.prod(shape[1:])
    if rows is not None:
        values *= rows[at // each]
    if columns is not None:
        values *= columns[at % each // math.prod(shape[2:])]
    return values


def write(path, tensors, dtype, seed, stress=None):
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
        for name, shape, deviation, mean in tensors.list:
            left = math.prod(shape)
            rows, columns = (stress.rows.get(name), stress.columns.get(name)) if stress else (None, None)
            while left:
                n = min(left, PIECE)
                values = random.standard_normal(n, np.float32) * np.float32(deviation) + np.float32(mean)
                if rows is not None or columns is not None:
                    values = scaled(values, shape, math.prod(shape) - left, rows, columns)
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
    parser.add_argument("--stress", action="store_true", help="outlier channels, a VAE that overflows float16")
    options = parser.parse_args()
    tensors = Tensors()
    if options.kind == "base":
        clip_l(tensors, "conditioner.embedders.0.transformer.text_model", **CLIP_L)
    open_clip(tensors, f"conditioner.embedders.{int(options.kind == 'base')}.model", **CLIP_G)
    unet(tensors, "model.diffusion_model", **UNETS[options.kind])
    vae(tensors, "first_stage_model", **VAE)
    stress = Stress(tensors) if options.stress else None
    size = write(options.out, tensors, options.dtype, options.seed, stress)
    print(f"{options.out}: {len(tensors.list)} tensors, {size / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
