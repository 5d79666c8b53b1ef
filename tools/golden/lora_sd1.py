#!/usr/bin/env python3
"""LoRAs of Stable Diffusion 1.x on the odd model `sd1` of families.py, for Darkroom to agree with.

    python3 tools/golden/lora_sd1.py testing/golden/lora_sd1

Made with the versions that lora.py names, by its rules: the same spellings and readers, for a model with one text
encoder (kohya's lora_te_), projections that are 1x1 convolutions and eight heads at each width. OUT_FOLDER/cases.json
lists name, request and file; NAME.safetensors is the file, NAME.npy the last latents, base.npy those without a LoRA.
"""
import json
import os
import sys
import tempfile

import numpy as np
import torch
from diffusers import EulerDiscreteScheduler
from safetensors.torch import save_file

import families
import lora

UNET = ["down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
        "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_v",
        "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0",
        "up_blocks.2.attentions.1.transformer_blocks.0.ff.net.0.proj"]
CONV = ["down_blocks.2.attentions.0.proj_in", "up_blocks.1.attentions.0.proj_out", "mid_block.resnets.0.conv1",
        "down_blocks.0.downsamplers.0.conv", "up_blocks.3.resnets.0.conv_shortcut"]


def open_pipe(work):
    pipe = families.load(families.sd1(), None, work)
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def kohya(pipe, seed, dtype=torch.float32):
    m = lora.Maker(pipe, seed)
    for n, name in enumerate(UNET + CONV):
        down, up, _ = m.pair("unet", name, 2 + n % 3)
        key = "lora_unet_" + name.replace(".", "_")
        m.out[key + ".lora_down.weight"], m.out[key + ".lora_up.weight"] = down.to(dtype), up.to(dtype)
        m.out[key + ".alpha"] = torch.tensor(1.5).to(dtype)
    for name in ("text_model.encoder.layers.0.mlp.fc1", "text_model.encoder.layers.2.mlp.fc2"):
        down, up, _ = m.pair("text_encoder", name, 2)
        key = "lora_te_" + name.replace(".", "_")
        m.out[key + ".lora_down.weight"], m.out[key + ".lora_up.weight"] = down.to(dtype), up.to(dtype)
        m.out[key + ".alpha"] = torch.tensor(3.0).to(dtype)
    return m.out


def peft_names(pipe, seed):
    m = lora.Maker(pipe, seed)
    for network, names in (("unet", UNET + CONV[:3]), ("text_encoder", lora.TEXT)):
        for name in names:
            down, up, _ = m.pair(network, name, 3)
            key = "%s.%s" % (network, name)
            m.out[key + ".lora_A.weight"], m.out[key + ".lora_B.weight"] = down, up
    return m.out


def loha(pipe, seed):
    m = lora.Maker(pipe, seed)
    for name in UNET[:2] + CONV:
        key = "lycoris_" + name.replace(".", "_")
        o, i, *k = m.shape("unet", name)
        for half in "12":
            m.out[key + ".hada_w%s_a" % half] = m.rand(o, 2, scale=0.5)
            m.out[key + ".hada_w%s_b" % half] = m.rand(2, i * int(np.prod(k)), scale=0.5)
        m.out[key + ".alpha"] = torch.tensor(1.0)
    return m.out


CASES = [
    # name, make, reader, strength
    ("kohya", kohya, "diffusers", 0.75),
    ("kohya_f16", lambda p, s: kohya(p, s, torch.float16), "diffusers", -0.5),
    ("peft", peft_names, "diffusers", 1.0),
    ("loha", loha, "lycoris", 0.75),
]


def main():
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    torch.set_num_threads(1)
    listed = []
    with tempfile.TemporaryDirectory() as work:
        base = lora.draw(open_pipe(work))
    np.save(os.path.join(out, "base.npy"), base)
    for n, (name, make, reader, strength) in enumerate(CASES):
        request = dict(lora.REQUEST, sampler="euler",
                       loras=[{"path": name + ".safetensors", "strength": strength}])
        listed.append({"name": name, "reference": reader, "request": request})
        with tempfile.TemporaryDirectory() as work:
            pipe = open_pipe(work)
        path = os.path.join(out, name + ".safetensors")
        save_file({k: v.contiguous() for k, v in make(pipe, 200 + n).items()}, path)
        if reader == "diffusers":
            pipe.load_lora_weights(path, adapter_name="a")
            pipe.set_adapters(["a"], [strength])
        else:
            lora.merge_lycoris(pipe, path, strength)
        latents = lora.draw(pipe)
        np.save(os.path.join(out, name + ".npy"), latents)
        change = float(np.linalg.norm(latents - base) / np.linalg.norm(base))
        print(name, os.path.getsize(path), "bytes; change of the latents", change, flush=True)
    with open(os.path.join(out, "cases.json"), "w", encoding="utf-8") as f:
        json.dump(listed, f, indent=0)
        f.write("\n")


if __name__ == "__main__":
    main()
