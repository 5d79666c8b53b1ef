#!/usr/bin/env python3
"""LoRAs and their relatives on the odd model, for Darkroom to agree with.

    python3 tools/golden/lora.py testing/golden/odd/model testing/golden/lora

Made with the versions of requirements.txt, peft 0.21.2 and lycoris-lora 4.1.3. Each case is a small random file, as a
trainer would write it, and the last latents of a run with it. Files that diffusers reads are loaded by
load_lora_weights, as users do; LyCORIS' families are merged into the model's weights by lycoris-lora
(create_lycoris_from_weights, merge_to). OUT_FOLDER/cases.json lists name, request and file; NAME.safetensors is the
file, NAME.npy the last latents, base.npy those without a LoRA.
"""
import json
import os
import sys

import numpy as np
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
from lycoris.functional.general import factorization
from lycoris.functional.lokr import kron_weight
from lycoris.modules import get_module, make_module
from lycoris.modules.boft import butterfly_factor
from lycoris.modules.ia3 import _ia3_weight
from safetensors.torch import load_file, save_file

REQUEST = {"prompt": "a small red circle left of the blue square", "width": 64, "height": 48, "steps": 2,
           "guidance_scale": 3.0, "seed": 11}
# (diffusers' module, sgm's module): a linear of each sort, convolutions of 3x3, 1x1 and stride 2
UNET = [
    ("down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q", "input_blocks.4.1.transformer_blocks.0.attn1.to_q"),
    ("down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0",
     "input_blocks.4.1.transformer_blocks.0.attn1.to_out.0"),
    ("mid_block.attentions.0.transformer_blocks.0.attn2.to_k", "middle_block.1.transformer_blocks.0.attn2.to_k"),
    ("up_blocks.1.attentions.2.transformer_blocks.0.ff.net.0.proj",
     "output_blocks.5.1.transformer_blocks.0.ff.net.0.proj"),
]
LINEAR_MORE = [("up_blocks.0.attentions.1.proj_in", "output_blocks.1.1.proj_in"),
               ("mid_block.resnets.1.time_emb_proj", "middle_block.2.emb_layers.1")]
CONV = [("down_blocks.0.resnets.1.conv1", "input_blocks.2.0.in_layers.2"),
        ("up_blocks.2.resnets.0.conv_shortcut", "output_blocks.6.0.skip_connection"),
        ("down_blocks.1.downsamplers.0.conv", "input_blocks.6.0.op"),
        ("up_blocks.0.upsamplers.0.conv", "output_blocks.2.2.conv")]
TEXT = ["text_model.encoder.layers.1.self_attn.q_proj", "text_model.encoder.layers.0.mlp.fc1"]


def open_pipe(folder):
    pipe = StableDiffusionXLPipeline.from_pretrained(folder, torch_dtype=torch.float32, add_watermarker=False)
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe, switch=None):
    def at_end(p, step, t, kwargs):
        if switch:
            switch(p, step)
        return kwargs
    with torch.no_grad():
        return pipe(prompt=REQUEST["prompt"], width=REQUEST["width"], height=REQUEST["height"],
                    num_inference_steps=REQUEST["steps"], guidance_scale=REQUEST["guidance_scale"],
                    generator=torch.Generator().manual_seed(REQUEST["seed"]), output_type="latent",
                    callback_on_step_end=at_end).images.float().numpy()


class Maker:
    """Random tensors for modules of the pipeline; the same for the same seed."""

    def __init__(self, pipe, seed):
        self.pipe, self.g, self.out = pipe, torch.Generator().manual_seed(seed), {}

    def shape(self, network, module):
        network = getattr(self.pipe, network)
        if module.startswith("text_model.") and not hasattr(network, "text_model"):
            module = module[len("text_model."):]  # transformers 5 has no module between
        return network.get_submodule(module).weight.shape

    def rand(self, *shape, scale=0.25, dtype=torch.float32):
        return (torch.randn(*shape, generator=self.g) * scale).to(dtype)

    def pair(self, network, module, rank, mid=False):
        """down, up (and mid) of a product."""
        o, i, *k = self.shape(network, module)
        if mid:
            return self.rand(rank, i, 1, 1), self.rand(o, rank, 1, 1), self.rand(rank, rank, *k)
        return self.rand(rank, i, *k), self.rand(o, rank, *([1] * len(k))), None


def kohya(pipe, seed, sgm=False, mid=False, dtype=torch.float32, conv=True, dora=False):
    m = Maker(pipe, seed)
    for n, (name, single) in enumerate(UNET + LINEAR_MORE + (CONV if conv else [])):
        key = "lora_unet_" + (single if sgm else name).replace(".", "_")
        rank = 2 + n % 3
        tucker = mid and len(m.shape("unet", name)) == 4 and m.shape("unet", name)[2] == 3
        down, up, middle = m.pair("unet", name, rank, tucker)
        m.out[key + ".lora_down.weight"], m.out[key + ".lora_up.weight"] = down.to(dtype), up.to(dtype)
        if middle is not None:
            m.out[key + ".lora_mid.weight"] = middle
        m.out[key + ".alpha"] = torch.tensor(1.5)
        if dora:
            o = m.shape("unet", name)[0]
            w = pipe.unet.get_submodule(name).weight
            norm = w.detach().flatten(1).norm(dim=1).reshape(o, *[1] * (w.dim() - 1))
            m.out[key + ".dora_scale"] = norm * (1 + m.rand(o, *[1] * (w.dim() - 1)))
    for prefix, network in (("lora_te1_", "text_encoder"), ("lora_te2_", "text_encoder_2")):
        for name in TEXT[1:] if not dora else []:  # diffusers 0.42 with transformers 5 loses attention here
            down, up, _ = m.pair(network, name, 2)
            m.out[prefix + name.replace(".", "_") + ".lora_down.weight"] = down.to(dtype)
            m.out[prefix + name.replace(".", "_") + ".lora_up.weight"] = up.to(dtype)
            m.out[prefix + name.replace(".", "_") + ".alpha"] = torch.tensor(3.0)
    return m.out


def peft_names(pipe, seed):
    m = Maker(pipe, seed)
    for name, _ in UNET + CONV[:2]:
        down, up, _ = m.pair("unet", name, 3)
        m.out["unet.%s.lora_A.weight" % name], m.out["unet.%s.lora_B.weight" % name] = down, up
    for network in ("text_encoder", "text_encoder_2"):
        for name in TEXT:
            down, up, _ = m.pair(network, name, 2)
            m.out["%s.%s.lora_A.weight" % (network, name)], m.out["%s.%s.lora_B.weight" % (network, name)] = down, up
    return m.out


def peft_dora(pipe, seed):
    m = Maker(pipe, seed)
    for name, _ in UNET:
        down, up, _ = m.pair("unet", name, 3)
        norm = pipe.unet.get_submodule(name).weight.detach().norm(dim=1)
        m.out["unet.%s.lora_A.weight" % name], m.out["unet.%s.lora_B.weight" % name] = down, up
        m.out["unet.%s.lora_magnitude_vector" % name] = norm * (1 + m.rand(len(norm)))
    return m.out


def old_diffusers(pipe, seed):
    """Attention processors, as diffusers wrote them before peft."""
    m = Maker(pipe, seed)
    for block in ("down_blocks.1.attentions.0.transformer_blocks.0.attn1",
                  "mid_block.attentions.0.transformer_blocks.0.attn2"):
        for part in ("to_q", "to_k", "to_v", "to_out"):
            down, up, _ = m.pair("unet", "%s.%s" % (block, part + (".0" if part == "to_out" else "")), 3)
            m.out["unet.%s.processor.%s_lora.down.weight" % (block, part)] = down
            m.out["unet.%s.processor.%s_lora.up.weight" % (block, part)] = up
    down, up, _ = m.pair("text_encoder", TEXT[1], 2)
    m.out["text_encoder.%s.lora_linear_layer.down.weight" % TEXT[1]] = down
    m.out["text_encoder.%s.lora_linear_layer.up.weight" % TEXT[1]] = up
    return m.out


def loha(pipe, seed):
    m = Maker(pipe, seed)
    for n, (name, _) in enumerate(UNET + CONV):
        key = "lycoris_" + name.replace(".", "_")
        o, i, *k = m.shape("unet", name)
        rank = 2 + n % 2
        if k and k[0] == 3 and n % 2:
            for half in "12":
                m.out[key + ".hada_t" + half] = m.rand(rank, rank, *k, scale=0.7)
                m.out[key + ".hada_w%s_a" % half] = m.rand(rank, o, scale=0.7)
                m.out[key + ".hada_w%s_b" % half] = m.rand(rank, i, scale=0.7)
        else:
            for half in "12":
                m.out[key + ".hada_w%s_a" % half] = m.rand(o, rank, scale=0.5)
                m.out[key + ".hada_w%s_b" % half] = m.rand(rank, i * int(np.prod(k)), scale=0.5)
        m.out[key + ".alpha"] = torch.tensor(1.0)
    return m.out


def lokr(pipe, seed):
    m = Maker(pipe, seed)
    for n, (name, _) in enumerate(UNET + CONV):
        key = "lycoris_" + name.replace(".", "_")
        o, i, *k = m.shape("unet", name)
        a, b = (4 if o % 4 == 0 else 2), (4 if i % 4 == 0 else 2)
        o2, i2, rank = o // a, i // b, 2
        if n % 4 == 1:
            m.out[key + ".lokr_w1_a"], m.out[key + ".lokr_w1_b"] = m.rand(a, rank), m.rand(rank, b)
        else:
            m.out[key + ".lokr_w1"] = m.rand(a, b)
        if n % 4 == 0 and not k:
            m.out[key + ".lokr_w2"] = m.rand(o2, i2, *k)
        elif k and k[0] == 3 and n % 2:
            m.out[key + ".lokr_t2"] = m.rand(rank, rank, *k, scale=0.7)
            m.out[key + ".lokr_w2_a"], m.out[key + ".lokr_w2_b"] = m.rand(rank, o2, scale=0.7), m.rand(rank, i2)
        else:
            m.out[key + ".lokr_w2_a"] = m.rand(o2, rank)
            m.out[key + ".lokr_w2_b"] = m.rand(rank, i2 * int(np.prod(k)))
        m.out[key + ".alpha"] = torch.tensor(1.0)
    return m.out


def oft(pipe, seed, butterfly=False):
    m = Maker(pipe, seed)
    for n, (name, _) in enumerate(UNET + CONV):
        key = "lycoris_" + name.replace(".", "_")
        o, i, *k = m.shape("unet", name)
        if butterfly:
            size, number = butterfly_factor(o, 8 if o == 12 else 16)
            m.out[key + ".oft_blocks"] = m.rand(sum(int(c) for c in f"{number - 1:b}") + 1, number, size, size)
        else:
            size, number = factorization(o, 4)
            m.out[key + ".oft_blocks"] = m.rand(number, size, size)
        m.out[key + ".alpha"] = torch.tensor(0.05 if n % 2 else 0.0)
        if n % 3 == 0:
            m.out[key + ".rescale"] = 1 + m.rand(o, 1, *([1] * len(k)))
    return m.out


def glora(pipe, seed):
    m = Maker(pipe, seed)
    for name, _ in UNET + CONV:
        key = "lycoris_" + name.replace(".", "_")
        o, i, *k = m.shape("unet", name)
        ones, rank = [1] * len(k), 3
        m.out[key + ".a1.weight"], m.out[key + ".a2.weight"] = m.rand(i, rank, *ones), m.rand(rank, i, *ones)
        m.out[key + ".b1.weight"], m.out[key + ".b2.weight"] = m.rand(o, rank, *ones), m.rand(rank, i, *k)
        m.out[key + ".alpha"] = torch.tensor(2.0)
    return m.out


def ia3(pipe, seed):
    m = Maker(pipe, seed)
    for n, (name, _) in enumerate(UNET + CONV):
        key = "lycoris_" + name.replace(".", "_")
        o, i, *k = m.shape("unet", name)
        on_input = n % 2
        m.out[key + ".on_input"] = torch.tensor(on_input)
        width = i if on_input else o
        m.out[key + ".weight"] = m.rand(1, width, 1, 1) if k else m.rand(width)
    return m.out


def full(pipe, seed):
    """Differences of weights, biases and norms."""
    m = Maker(pipe, seed)
    for name in ("mid_block.attentions.0.transformer_blocks.0.attn2.to_k", "down_blocks.0.resnets.1.conv1"):
        key = "lycoris_" + name.replace(".", "_")
        m.out[key + ".diff"] = m.rand(*m.shape("unet", name), scale=0.1)
        if pipe.unet.get_submodule(name).bias is not None:
            m.out[key + ".diff_b"] = m.rand(m.shape("unet", name)[0])
    for name in ("down_blocks.1.resnets.0.norm2", "mid_block.attentions.0.transformer_blocks.0.norm1"):
        key = "lycoris_" + name.replace(".", "_")
        m.out[key + ".w_norm"], m.out[key + ".b_norm"] = [m.rand(m.shape("unet", name)[0]) for _ in "wb"]
    return m.out


def replacement(pipe, seed):
    m = Maker(pipe, seed)
    for name in (UNET[1][0], CONV[0][0]):
        module = pipe.unet.get_submodule(name)
        key = "lora_unet_" + name.replace(".", "_")
        m.out[key + ".set_weight"] = module.weight.detach() + m.rand(*module.weight.shape, scale=0.1)
        m.out[key + ".set_bias"] = module.bias.detach() + m.rand(len(module.bias))
    return m.out


def replace_weights(pipe, path):
    state = load_file(path)
    names = {("lora_unet_" + n.replace(".", "_")): m for n, m in pipe.unet.named_modules()}
    for key, value in state.items():
        module, part = key.split(".set_")
        with torch.no_grad():
            getattr(names[module], part).copy_(value)


def lokr_weight(state, key, weight, strength):
    """The formula of lycoris.functional.lokr: the module's loader takes only sizes that it would have chosen itself."""
    parts = [state.get("%s.lokr_%s" % (key, n)) for n in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")]
    ranks = [p.shape[0] for p in (parts[5], parts[2]) if p is not None]
    scale = strength * (float(state[key + ".alpha"]) / ranks[0] if ranks else 1)
    return weight + kron_weight(*parts, scale=scale).reshape(weight.shape)


def lycoris_named(state):
    return {k.replace("lora_unet_", "lycoris_"): v for k, v in state.items() if k.startswith("lora_unet_")}


def merge_lycoris(pipe, path, strength):
    """Each module's merged weight from lycoris-lora, put in the place of the model's own."""
    state = load_file(path)
    names = {("lycoris_" + n.replace(".", "_")): m for n, m in pipe.unet.named_modules()}
    for key in sorted({k.split(".")[0] for k in state}):
        weight, bias = names[key].weight, None
        with torch.no_grad():
            if any(k.startswith(key + ".lokr") for k in state):
                merged = lokr_weight(state, key, weight, strength)
            elif key + ".on_input" in state:  # the module's loader forgets which side it is
                merged = _ia3_weight(weight, state[key + ".weight"], int(state[key + ".on_input"]), strength, False)
            else:
                kind, params = get_module(state, key)
                module = make_module(kind, params, key, names[key])
                merged, bias = module.get_merged_weight(multiplier=strength, shape=weight.shape)
                if hasattr(module, "hada_w1_a"):  # its merge applies alpha twice, its forward pass once
                    merged = weight + strength * module.get_weight(weight.shape)
            weight.copy_(merged)
            if bias is not None:
                names[key].bias.copy_(bias)


CASES = [
    # name, make, reader, strength
    ("kohya", lambda p: kohya(p, 1), "diffusers", 0.75),
    ("kohya_f16", lambda p: kohya(p, 2, dtype=torch.float16), "diffusers", -0.5),
    ("peft", lambda p: peft_names(p, 3), "diffusers", 0.75),
    ("processor", lambda p: old_diffusers(p, 4), "diffusers", 1.0),
    # diffusers leaves kohya's dora_scale out
    ("dora", lambda p: lycoris_named(kohya(p, 5, dora=True)), "lycoris", 1.0),
    ("dora_peft", peft_dora, "diffusers", 1.0),
    ("loha", loha, "lycoris", 0.75),
    ("lokr", lokr, "lycoris", 0.75),
    ("oft", oft, "lycoris", 1.0),
    ("oft_half", oft, "lycoris", 0.5),
    ("boft", lambda p, s=8: oft(p, s, True), "lycoris", 0.5),
    ("glora", glora, "lycoris", 0.75),
    ("ia3", ia3, "lycoris", 0.5),
    ("full", full, "lycoris", 0.75),
    ("locon_tucker", lambda p: lycoris_named(kohya(p, 14, mid=True)), "lycoris", 0.75),
    ("replacement", replacement, "values", 1.0),
    # the names of single files, which diffusers reads for blocks in the public models' places only
    ("sgm", lambda p: kohya(p, 1, sgm=True), "kohya", 0.75),
]


def make(case, pipe, seed):
    try:
        return case[1](pipe, seed)
    except TypeError:
        return case[1](pipe)


def main():
    folder, out = sys.argv[1:3]
    os.makedirs(out, exist_ok=True)
    listed = []
    only = sys.argv[3:]
    base = draw(open_pipe(folder))
    np.save(os.path.join(out, "base.npy"), base)
    for n, case in enumerate(CASES):
        name, _, reader, strength = case
        request = dict(REQUEST, loras=[{"path": name + ".safetensors", "strength": strength}])
        listed.append({"name": name, "reference": reader, "request": request})
        if only and name not in only:
            continue
        pipe = open_pipe(folder)
        path = os.path.join(out, name + ".safetensors")
        save_file({k: v.contiguous() for k, v in make(case, pipe, 100 + n).items()}, path)
        if reader == "kohya":  # the same LoRA under other names
            np.save(os.path.join(out, name + ".npy"), np.load(os.path.join(out, reader + ".npy")))
            continue
        if reader == "diffusers":
            pipe.load_lora_weights(path, adapter_name="a")
            pipe.set_adapters(["a"], [strength])
        elif reader == "values":  # ComfyUI's set_weight: the file's values in the place of the model's
            replace_weights(pipe, path)
        else:
            merge_lycoris(pipe, path, strength)
        latents = draw(pipe)
        np.save(os.path.join(out, name + ".npy"), latents)
        change = float(np.linalg.norm(latents - base) / np.linalg.norm(base))
        print(name, os.path.getsize(path), "bytes; change of the latents", change, flush=True)
    with open(os.path.join(out, "cases.json"), "w", encoding="utf-8") as f:
        json.dump(listed, f, indent=0)
        f.write("\n")


if __name__ == "__main__":
    main()
