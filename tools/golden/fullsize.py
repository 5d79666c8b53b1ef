#!/usr/bin/env python3
"""Reference vectors at SDXL's real size, for `make check-fullsize`.

    tools/make_sdxl_checkpoint.py sdxl.safetensors
    python3 tools/golden/fullsize.py sdxl.safetensors testing/golden/fullsize

Made with torch 2.15.0, diffusers 0.42.1, transformers 5.23.0, numpy 2.4.6. Two guided Euler steps at 256x256 in float32.
The single file is taken apart with diffusers' own converters and the networks are loaded one after the other, so 16 GB
of memory are enough and nothing is downloaded. The tokenizers are made from the merges that Darkroom ships.
Writes one .npy a stage, as pipeline.py does, and request.json with the checkpoint's sha256.
"""
import gc
import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.loaders import single_file_utils as single
from safetensors import safe_open
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

import pipeline

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from sdxl import CLIP_G, CLIP_L, SCHEDULER, UNET, VAE  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
MERGES = os.path.join(HERE, "../../share/tokenizers/clip/merges.txt.zst")
REQUEST = {"prompt": "a castle on a hill at dawn, oil painting", "width": 256, "height": 256, "steps": 2,
           "guidance_scale": 5.0, "seed": 1}


def tensors(path, prefix):
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys() if key.startswith(prefix)}


def fill(model, state):
    """The state in float32 in the place of the model's empty parameters; all of them, and no other."""
    for key in list(state):
        state[key] = state[key].float()
    state = {key: value for key, value in state.items() if "position_ids" not in key}
    missing, unexpected = model.load_state_dict(state, strict=False, assign=True)
    missing = [key for key in missing if "position_ids" not in key]
    if missing or unexpected:
        sys.exit("%s: missing %s, unexpected %s" % (type(model).__name__, missing[:5], unexpected[:5]))
    return model.eval()


def without_prefix(model, state):
    """transformers has moved the parameters in and out of `text_model.` over its versions."""
    names = set(model.state_dict())
    pick = lambda key: next((k for k in (key, key.removeprefix("text_model."), "text_model." + key) if k in names), key)
    return {pick(key): value for key, value in state.items()}


def tokenizers():
    text = subprocess.run(["zstd", "-dc", MERGES], check=True, capture_output=True).stdout.decode()
    merges = [tuple(line.split(" ")) for line in text.split("\n")[1:] if line]
    printable = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    chars = [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    names = chars + [c + "</w>" for c in chars] + ["".join(m) for m in merges] + ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {name: i for i, name in enumerate(names)}
    return [CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token=pad, model_max_length=77)
            for pad in ("<|endoftext|>", "!")]


def text_encoders(path):
    first = CLIPTextModel(CLIPTextConfig(**CLIP_L))
    prefix = "conditioner.embedders.0.transformer."
    state = single.convert_ldm_clip_checkpoint(tensors(path, prefix), remove_prefix=prefix)
    fill(first, without_prefix(first, state))
    second = CLIPTextModelWithProjection(CLIPTextConfig(**CLIP_G))
    prefix = "conditioner.embedders.1.model."
    state = single.convert_open_clip_checkpoint(second, tensors(path, prefix), prefix=prefix)
    fill(second, without_prefix(second, state))
    return first, second


def make_pipeline(**parts):
    names = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet")
    pipe = StableDiffusionXLPipeline(
        **{name: parts.get(name) for name in names}, scheduler=EulerDiscreteScheduler(**SCHEDULER),
        add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def encode(path, stages):
    one, two = tokenizers()
    first, second = text_encoders(path)
    pipe = make_pipeline(text_encoder=first, text_encoder_2=second, tokenizer=one, tokenizer_2=two)
    stages["tokens"] = pipeline.tokens_of(one, ["", REQUEST["prompt"]])
    stages["tokens_2"] = pipeline.tokens_of(two, ["", REQUEST["prompt"]])
    return pipe.encode_prompt(REQUEST["prompt"], do_classifier_free_guidance=True)


def denoise(path, embeds):
    with init_empty_weights():
        unet = UNet2DConditionModel(**UNET)
    fill(unet, single.convert_ldm_unet_checkpoint(tensors(path, "model.diffusion_model."), unet.config))
    pipe = make_pipeline(unet=unet)
    recorder = pipeline.Recorder(pipe)
    positive, negative, pooled, negative_pooled = embeds
    latents = pipe(
        prompt_embeds=positive, negative_prompt_embeds=negative, pooled_prompt_embeds=pooled,
        negative_pooled_prompt_embeds=negative_pooled, width=REQUEST["width"], height=REQUEST["height"],
        num_inference_steps=REQUEST["steps"], guidance_scale=REQUEST["guidance_scale"],
        generator=torch.Generator().manual_seed(REQUEST["seed"]), output_type="latent").images
    pipeline.record_times(pipe, REQUEST, recorder.stages, 2)
    return latents, recorder.stages


def decode(path, latents):
    vae = AutoencoderKL(**VAE)
    fill(vae, single.convert_ldm_vae_checkpoint(tensors(path, "first_stage_model."), vae.config))
    image = vae.decode(latents / vae.config.scaling_factor).sample
    return (image / 2 + 0.5).clamp(0, 1).numpy()


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()


def main():
    path, out = sys.argv[1:3]
    torch.set_grad_enabled(False)
    stages = {}
    embeds = encode(path, stages)
    gc.collect()
    print("text encoded", flush=True)
    latents, found = denoise(path, embeds)
    gc.collect()
    print("denoised", float(latents.std()), flush=True)
    stages.update(found)
    stages["image"] = decode(path, latents)
    os.makedirs(out, exist_ok=True)
    for name, value in stages.items():
        np.save(os.path.join(out, name + ".npy"), np.ascontiguousarray(value))
    with open(os.path.join(out, "request.json"), "w", encoding="utf-8") as file:
        json.dump({"sha256": sha256(path), "request": REQUEST}, file, indent=1)
        file.write("\n")
    print(len(stages), "stages", sorted(stages))


if __name__ == "__main__":
    main()
