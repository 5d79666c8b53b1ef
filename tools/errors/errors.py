#!/usr/bin/env python3
"""How far one prediction and one decode are from float32, ours and PyTorch's: see tools/check_errors.sh.

    errors.py PROGRAMS CHECKPOINT OUT.json [--size PIXELS] [--sets NAME,NAME]

The reference is diffusers in float32 on the same weights and inputs; so is PyTorch in bfloat16. Ours runs with
precision auto in each kernel set, with its inputs injected as stages. Errors are relative L2 distances; the decoded
pictures are compared in 0..1, clamped, as both programs show them. Errors are: a 16-bit set with a larger distance than PyTorch in bfloat16, a float32 set above 5e-5, anything not finite.
"""
import argparse
import gc
import json
import os
import sys
import tempfile

import numpy as np
import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders import single_file_utils as single

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, ".."), os.path.join(HERE, "../golden")]
import fullsize  # noqa: E402
from fullsize_checks import Worker  # noqa: E402

SETS = {"avx2": "f32", "avx512": "f32", "avx512_bf16": "bf16"}
FP32_LIMIT = 5e-5
FP16_MOST = 65504.0
SEED = 7


def inputs(folder, size):
    random = np.random.default_rng(SEED)
    made = {"model_input_000": (1, 4, size // 8, size // 8), "prompt_embeds": (1, 77, 2048), "pooled": (1, 1280),
            "latents_000": (1, 4, size // 8, size // 8)}
    paths = {}
    for name, shape in made.items():
        paths[name] = os.path.join(folder, name + ".npy")
        np.save(paths[name], random.standard_normal(shape, np.float32))
    return paths


def ours(programs, model, folder, paths, size, kernels):
    """Prediction and picture of one kernel set; None where this machine lacks it."""
    request = {"prompt": "", "width": size, "height": size, "steps": 1, "seed": 1, "guidance_scale": 1.0,
               "sampler": "euler", "model": model, "kernels": kernels, "precision": "auto"}
    found = {}
    worker = Worker(programs, folder)
    for stage, given in (("pred_000", "model_input_000"), ("image", "latents_000")):
        dump = os.path.join(folder, kernels + "-" + stage)
        answer = worker.wait(worker.send("generate", dict(
            request, dump_stages=dump, load_stage={name: paths[name] for name in ("prompt_embeds", "pooled", given)})))
        if not answer["success"]:
            print("  %s: %s" % (kernels, answer["error"]), flush=True)
            worker.close()
            return None
        found[stage] = np.load(os.path.join(dump, stage + ".npy"))
        for name in ("timesteps", "time_ids"):
            if stage == "pred_000":
                found[name] = np.load(os.path.join(dump, name + ".npy"))
    worker.close()
    return found


def predict(unet, dtype, paths, times):
    unet.to(dtype)
    load = lambda name: torch.from_numpy(np.load(paths[name])).to(dtype)
    added = {"text_embeds": load("pooled"), "time_ids": torch.from_numpy(times["time_ids"]).to(dtype)}
    timestep = torch.tensor(float(times["timesteps"][0]))
    return unet(load("model_input_000"), timestep, load("prompt_embeds"), added_cond_kwargs=added).sample.float().numpy()


def unet_reference(model, paths, times):
    with init_empty_weights():
        unet = UNet2DConditionModel(**fullsize.UNET)
    state = fullsize.tensors(model, "model.diffusion_model.")
    fullsize.fill(unet, single.convert_ldm_unet_checkpoint(state, unet.config))
    del state
    gc.collect()
    return [predict(unet, dtype, paths, times) for dtype in (torch.float32, torch.bfloat16)]


def vae_reference(model, paths):
    """The picture in float32 and in bfloat16, and the largest value of the residual stream."""
    vae = AutoencoderKL(**fullsize.VAE)
    fullsize.fill(vae, single.convert_ldm_vae_checkpoint(fullsize.tensors(model, "first_stage_model."), vae.config))
    largest = [0.0]

    def look(module, arguments, result):
        largest[0] = max(largest[0], float(result.abs().max()))

    for block in [vae.decoder.mid_block, *vae.decoder.up_blocks]:
        block.register_forward_hook(look)
    pictures = []
    for dtype in (torch.float32, torch.bfloat16):
        vae.to(dtype)
        latents = torch.from_numpy(np.load(paths["latents_000"])).to(dtype) / vae.config.scaling_factor
        pictures.append((vae.decode(latents).sample.float() / 2 + 0.5).clamp(0, 1).numpy())
    return pictures, largest[0]


def distance(got, want):
    return float(np.linalg.norm((got - want).astype(np.float64)) / np.linalg.norm(want.astype(np.float64)))


def judge(result):
    wrong = []
    for stage in ("unet", "vae"):
        for name, kind in SETS.items():
            limit = FP32_LIMIT if kind == "f32" else result["pytorch_bf16"][stage]
            error = result.get(name, {}).get(stage)
            if error is not None and not error <= limit:
                wrong.append("%s of %s: %.2e, at most %.2e" % (stage, name, error, limit))
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("programs")
    parser.add_argument("model")
    parser.add_argument("out")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--sets", default=",".join(SETS))
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    with tempfile.TemporaryDirectory(prefix="darkroom-errors-") as folder:
        paths = inputs(folder, options.size)
        found = {name: ours(options.programs, options.model, folder, paths, options.size, name)
                 for name in options.sets.split(",")}
        found = {name: value for name, value in found.items() if value}
        times = next(iter(found.values()))
        predictions = unet_reference(options.model, paths, times)
        gc.collect()
        pictures, largest = vae_reference(options.model, paths)
    result = {"size": options.size, "vae_stream_largest": largest, "vae_overflows_f16": largest > FP16_MOST,
              "pytorch_bf16": {"unet": distance(predictions[1], predictions[0]),
                               "vae": distance(pictures[1], pictures[0])}}
    for name, value in found.items():
        result[name] = {"unet": distance(value["pred_000"], predictions[0]), "vae": distance(value["image"], pictures[0])}
    print("%-14s %10s %10s" % ("", "UNet", "VAE"))
    for name in ("pytorch_bf16", *found):
        print("%-14s %10.2e %10.2e" % (name, result[name]["unet"], result[name]["vae"]))
    print("largest value of the VAE's stream: %.3g" % largest)
    with open(options.out, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
        file.write("\n")
    wrong = judge(result)
    print("wrong: " + "; ".join(wrong) if wrong else "all as it should be")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
