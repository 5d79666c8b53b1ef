#!/usr/bin/env python3
"""Vectors of guiders: what the classes of diffusers.guiders make of predictions, step by step.

    venv/bin/python tools/golden/guiders.py testing/golden/guiders

Every case is a run of STEPS steps with the same random predictions; NAME.npy holds its guided predictions
[STEPS, 4, H, W]. Guiders that no package has are formulas of this script: FORMULAS says whose. Packages: requirements.txt.
"""
import json
import math
import os
import sys

import numpy as np
import torch
from diffusers import guiders

STEPS, H, W, SCALE = 6, 5, 7, 6.5
SHAPE = (1, 4, H, W)

# name: (class, arguments, what our option is, rescale)
CASES = {
    "cfg": ("ClassifierFreeGuidance", {}, "", 0),
    "cfg_rescale": ("ClassifierFreeGuidance", {"guidance_rescale": 0.7}, "", 0.7),
    "interval": ("ClassifierFreeGuidance", {"start": 0.3, "stop": 0.7}, "interval,start=0.3,end=0.7", 0),
    "cfg_zero": ("ClassifierFreeZeroStarGuidance", {"zero_init_steps": 0}, "cfg_zero", 0),
    "cfg_zero_init": ("ClassifierFreeZeroStarGuidance", {"zero_init_steps": 2}, "cfg_zero,zero_init_steps=2", 0),
    "tcfg": ("TangentialClassifierFreeGuidance", {}, "tcfg", 0),
    "apg": ("AdaptiveProjectedGuidance", {"adaptive_projected_guidance_momentum": -0.5,
                                          "adaptive_projected_guidance_rescale": 15.0, "eta": 0.0}, "apg", 0),
    "apg_norm": ("AdaptiveProjectedGuidance", {"adaptive_projected_guidance_momentum": 0.3,
                                               "adaptive_projected_guidance_rescale": 4.0, "eta": 0.25,
                                               "guidance_rescale": 0.5}, "apg,eta=0.25,momentum=0.3,norm=4", 0.5),
    "mambo": ("MagnitudeAwareGuidance", {"alpha": 0.7}, "mambo,alpha=0.7", 0),
}
# ComfyUI's CFGNorm; mcmonkey's sd-dynamic-thresholding. Both work on the clean picture x - sigma * pred.
FORMULAS = {
    "cfg_norm": ("cfg_norm,strength=0.9", 0.9),
    "dynamic_threshold": ("dynamic_threshold,mimic_scale=3,threshold_percentile=0.9,interpolate_phi=0.8", (3, 0.9, 0.8)),
    "dynamic_threshold_whole": ("dynamic_threshold,mimic_scale=2.5", (2.5, 1, 1)),
}
SIGMAS = [14.6, 6.1, 2.9, 1.3, 0.5, 0.03]


def cfg_norm(cond, uncond, strength):
    guided = uncond + SCALE * (cond - uncond)
    ratio = torch.linalg.vector_norm(cond, dim=1, keepdim=True) / (torch.linalg.vector_norm(guided, dim=1, keepdim=True) + 1e-8)
    return guided * ratio.clamp(0, 1) * strength


def dynamic_threshold(cond, uncond, options):
    mimic, percentile, phi = options
    low, full = (uncond + s * (cond - uncond) for s in (mimic, SCALE))
    mean = full.mean(dim=(2, 3), keepdim=True)
    low_most = (low - low.mean(dim=(2, 3), keepdim=True)).abs().amax(dim=(2, 3), keepdim=True)
    reach = torch.quantile((full - mean).abs().flatten(2), percentile, dim=2)[..., None, None]
    most = torch.maximum(low_most, reach)
    squeezed = torch.minimum(torch.maximum(full - mean, -most), most) / most * low_most + mean
    return squeezed * phi + full * (1 - phi)


def run_class(name, cond, uncond):
    class_name, arguments, _, _ = CASES[name]
    guider = getattr(guiders, class_name)(guidance_scale=SCALE, **arguments)
    out = []
    for step in range(STEPS):
        guider.set_state(step=step, num_inference_steps=STEPS, timestep=torch.tensor(999 - step))
        if hasattr(guider, "momentum_buffer") and step == 0:
            momentum = guider.adaptive_projected_guidance_momentum
            guider.momentum_buffer = guiders.adaptive_projected_guidance.MomentumBuffer(momentum)
        tokens = (1, 4, -1) if name == "mambo" else SHAPE  # this class refuses pictures, its norm takes two dimensions
        out.append(guider.forward(cond[step].reshape(tokens), uncond[step].reshape(tokens)).pred)
    return out


def run_formula(name, x, cond, uncond):
    rule, options = (cfg_norm if name == "cfg_norm" else dynamic_threshold), FORMULAS[name][1]
    out = []
    for step in range(STEPS):
        sigma = SIGMAS[step]
        latents = (x[step] * math.sqrt(sigma * sigma + 1)).double()
        clean = rule(*(latents - sigma * p[step].double() for p in (cond, uncond)), options)
        out.append(((latents - clean) / sigma).float())
    return out


def main(folder):
    os.makedirs(folder, exist_ok=True)
    torch.manual_seed(16)
    x, cond = (torch.randn(STEPS, *SHAPE) for _ in range(2))
    uncond = 0.8 * cond + 0.5 * torch.randn(STEPS, *SHAPE)
    save = lambda name, values: np.save(os.path.join(folder, name + ".npy"), torch.stack(list(values)).reshape(STEPS, 4, H, W).numpy())
    save("x", x)
    save("positive", cond)
    save("negative", uncond)
    cases = []
    for name, (class_name, _, option, rescale) in CASES.items():
        save(name, run_class(name, cond, uncond))
        cases.append({"name": name, "guidance": option, "rescale": rescale, "reference": class_name})
    for name, (option, _) in FORMULAS.items():
        save(name, run_formula(name, x, cond, uncond))
        cases.append({"name": name, "guidance": option, "rescale": 0, "reference": "formula"})
    with open(os.path.join(folder, "cases.json"), "w") as f:
        json.dump({"scale": SCALE, "sigmas": SIGMAS, "cases": cases}, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
