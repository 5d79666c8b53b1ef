#!/usr/bin/env python3
"""Whole runs of the reference, stage by stage, for Darkroom to agree with.

    python3 tools/golden/pipeline.py MODEL_FOLDER CASES.json OUT_FOLDER

Made with torch 2.15.0, diffusers 0.42.1, transformers 5.23.0, numpy 2.4.6, scipy 1.17 (for LMS). CASES.json is a list of
{"name", "request"}: requests as darkroom-worker takes them; "scheduler", if there, is the scheduler_config.json that the
model has in that case. The folder is loaded with from_pretrained, and a sampler of the request is made from its
scheduler's configuration with from_config, as users do: no key is passed that the request does not ask for. For each case OUT_FOLDER/NAME/ gets one .npy a stage, under
the names and in the shapes of inference/stages.h. The model runs in float32 on the CPU; image i of a batch has its own
generator, seeded with seed + i. Every file is written by numpy.save.
"""
import functools
import json
import os
import sys
import tempfile

import diffusers
import numpy as np
import torch
from diffusers import StableDiffusionXLPAGPipeline, StableDiffusionXLPipeline

CLASSES = {
    "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "lms": "LMSDiscreteScheduler",
    "ddim": "DDIMScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
    "lcm": "LCMScheduler",
    "tcd": "TCDScheduler",
}


def make_scheduler(pipe, request):
    """The request's sampler from the model's configuration, the way a diffusers user would."""
    extra = {}
    if "spacing" in request:
        extra["timestep_spacing"] = request["spacing"]
    if request.get("schedule", "normal") != "normal":
        extra["use_%s_sigmas" % request["schedule"]] = True
    name = CLASSES.get(request.get("sampler"), type(pipe.scheduler).__name__)
    return getattr(diffusers, name).from_config(pipe.scheduler.config, **extra)


def with_scheduler(folder, scheduler, work):
    """The model with another scheduler_config.json, in the folder `work`."""
    for name in os.listdir(folder):
        if name not in ("scheduler", "model_index.json"):
            os.symlink(os.path.abspath(os.path.join(folder, name)), os.path.join(work, name))
    with open(os.path.join(folder, "model_index.json"), encoding="utf-8") as f:
        index = json.load(f)
    index["scheduler"] = ["diffusers", scheduler["_class_name"]]
    os.mkdir(os.path.join(work, "scheduler"))
    for name, value in (("model_index.json", index), ("scheduler/scheduler_config.json", scheduler)):
        with open(os.path.join(work, name), "w", encoding="utf-8") as f:
            json.dump(value, f)
    return work


def is_xl(pipe):
    return hasattr(pipe, "text_encoder_2")


class Recorder:
    """Wraps the methods through which every stage passes, and records it."""

    def __init__(self, pipe):
        self.stages, self.count, self.pipe = {}, 0, pipe
        scheduler = pipe.scheduler
        scale, step = scheduler.scale_model_input, scheduler.step
        encode, prepare = pipe.encode_prompt, pipe.prepare_latents

        def recorded_scale(sample, *args, **kwargs):
            out = scale(sample, *args, **kwargs)
            rows = 1 + pipe.do_classifier_free_guidance + getattr(pipe, "do_perturbed_attention_guidance", False)
            self.keep("model_input_%03d" % self.count, out[:out.shape[0] // rows])
            return out

        @functools.wraps(step)  # the pipeline looks at its parameters
        def recorded_step(pred, t, sample, *args, **kwargs):
            self.keep("pred_%03d" % self.count, pred)
            out = step(pred, t, sample, *args, **kwargs)
            self.keep("latents_%03d" % self.count, out[0])
            self.count += 1
            return out

        def recorded_encode(*args, **kwargs):
            out = encode(*args, **kwargs)
            guided = pipe.do_classifier_free_guidance
            pick = lambda a, b: torch.cat([b[:1], a[:1]]) if guided else a[:1]
            self.keep("prompt_embeds", pick(*out[:2]))
            if is_xl(pipe):
                self.keep("pooled", pick(*out[2:]))
            return out

        def recorded_prepare(*args, **kwargs):
            out = prepare(*args, **kwargs)
            self.keep("latents_init", out)
            return out

        scheduler.scale_model_input, scheduler.step = recorded_scale, recorded_step
        pipe.encode_prompt, pipe.prepare_latents = recorded_encode, recorded_prepare

    def keep(self, name, tensor):
        self.stages[name] = tensor.detach().float().contiguous().numpy().copy()


def tokens_of(tokenizer, texts):
    ids = tokenizer(texts, padding="max_length", max_length=tokenizer.model_max_length, truncation=True).input_ids
    return np.asarray(ids, dtype=np.int64)


def record_tokens(pipe, request, stages, guided):
    prompt, negative = request["prompt"], request.get("negative_prompt", "")
    second = request.get("prompt_2") or prompt
    negative_2 = request.get("negative_prompt_2") or negative
    if "negative_prompt" not in request:
        negative_2 = negative
    stages["tokens"] = tokens_of(pipe.tokenizer, [negative, prompt] if guided else [prompt])
    if is_xl(pipe):
        stages["tokens_2"] = tokens_of(pipe.tokenizer_2, [negative_2, second] if guided else [second])


def size_of(text):
    width, height = text.split("x")
    return int(height), int(width)


def record_times(pipe, request, stages, rows):
    height, width = request["height"], request["width"]
    scheduler = pipe.scheduler
    stages["timesteps"] = scheduler.timesteps.float().numpy().copy()
    record_sigmas(scheduler, request, stages)
    if not is_xl(pipe):
        return
    original = size_of(request.get("original_size", "%dx%d" % (width, height)))
    target = size_of(request.get("target_size", "%dx%d" % (width, height)))
    crop = tuple(int(v) for v in request.get("crop", "0,0").split(","))
    stages["time_ids"] = np.asarray([original + crop + target] * rows, dtype=np.float32)


def record_sigmas(scheduler, request, stages):
    if hasattr(scheduler, "sigmas"):
        stages["sigmas"] = scheduler.sigmas.float().numpy().copy()
    else:  # those that its alphas stand for, last where it ends: ddim at the final alpha, lcm without noise, tcd at timestep 0
        bars = scheduler.alphas_cumprod.double()
        final = {"lcm": torch.ones(1), "tcd": bars[:1]}.get(request.get("sampler"), scheduler.final_alpha_cumprod)
        abar = torch.cat([bars[scheduler.timesteps], final.double().reshape(1)])
        stages["sigmas"] = ((1 - abar) / abar).sqrt().float().numpy()


class MeanQueries:
    """Self-attention in which every query of the last of `rows` rows is the mean of all (SEG, arXiv 2408.00760, its blur
    without limit): the class of diffusers exchanges its two cases."""

    def __init__(self, rows):
        self.rows = rows

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        q, k, v = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        last = q.shape[0] // self.rows
        q = torch.cat([q[:-last], q[-last:].mean(dim=1, keepdim=True).expand_as(q[-last:])])
        heads = lambda t: t.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
        out = torch.nn.functional.scaled_dot_product_attention(heads(q), heads(k), heads(v))
        return attn.to_out[1](attn.to_out[0](out.transpose(1, 2).flatten(2)))


def tile(pipe, axes):
    """Circular padding along these axes in every convolution, as programs on diffusers do it."""
    def forward(self, x, weight, bias):
        across, down = (self.padding[1] if "x" in axes else 0), (self.padding[0] if "y" in axes else 0)
        x = torch.nn.functional.pad(x, (across, across, 0, 0), mode="circular") if across else x
        x = torch.nn.functional.pad(x, (0, 0, down, down), mode="circular") if down else x
        rest = (self.padding[0] - down, self.padding[1] - across)
        return torch.nn.functional.conv2d(x, weight, bias, self.stride, rest, self.dilation, self.groups)

    for part in (pipe.unet, pipe.vae):
        for module in part.modules():
            if isinstance(module, torch.nn.Conv2d):
                module._conv_forward = forward.__get__(module)


def run(folder, request):
    guiders = {g["name"]: g for g in request.get("guidance", [])}
    settings = {"torch_dtype": torch.float32, "add_watermarker": False}
    guider = guiders.get("pag", guiders.get("seg"))
    if guider:
        pipe = StableDiffusionXLPAGPipeline.from_pretrained(folder, pag_applied_layers=guider["layers"].split(";"), **settings)
        if "seg" in guiders:
            pipe.set_pag_applied_layers(guider["layers"].split(";"), (MeanQueries(3), MeanQueries(2)))
        more = {"pag_scale": guider["scale"], "pag_adaptive_scale": guider.get("adaptive", 0.0)}
    else:
        pipe, more = StableDiffusionXLPipeline.from_pretrained(folder, **settings), {}
    if "freeu" in guiders:
        pipe.enable_freeu(**{key: guiders["freeu"][key] for key in ("s1", "s2", "b1", "b2")})
    if "tile" in request:
        tile(pipe, request["tile"])
    return record(pipe, request, **more)


def record(pipe, request, **optional):
    """The stages of a run of a pipeline, Stable Diffusion's or SDXL's."""
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = make_scheduler(pipe, request)
    recorder = Recorder(pipe)
    scale = request.get("guidance_scale", 5.0)
    batch = request.get("batch_size", 1)
    generators = [torch.Generator().manual_seed(request["seed"] + i) for i in range(batch)]
    if "original_size" in request:
        optional["original_size"] = size_of(request["original_size"])
    if "target_size" in request:
        optional["target_size"] = size_of(request["target_size"])
    if "crop" in request:
        optional["crops_coords_top_left"] = tuple(int(v) for v in request["crop"].split(","))
    optional.update({field: request[field] for field in ("timesteps", "sigmas") if field in request})
    if not hasattr(pipe.text_encoder, "text_model"):  # transformers 5 has flattened it, diffusers' clip_skip wants it
        vars(pipe.text_encoder)["text_model"] = pipe.text_encoder
    own = 2 if is_xl(pipe) else 1  # the layer that is taken without clip_skip
    if request.get("clip_skip", own) != own:
        optional["clip_skip"] = request["clip_skip"] - own
    if is_xl(pipe):
        optional.update(prompt_2=request.get("prompt_2"), negative_prompt_2=request.get("negative_prompt_2"))
    with torch.no_grad():
        images = pipe(
            prompt=request["prompt"], negative_prompt=request.get("negative_prompt"),
            width=request["width"], height=request["height"], num_inference_steps=request.get("steps"),
            guidance_scale=scale, guidance_rescale=request.get("guidance_rescale", 0.0), eta=request.get("eta", 0.0),
            num_images_per_prompt=batch, generator=generators, output_type="pt", **optional).images
    stages = recorder.stages
    recorder.keep("image", images)
    record_tokens(pipe, request, stages, scale > 1)
    record_times(pipe, request, stages, 2 if scale > 1 else 1)
    return stages


def save(stages, target):
    os.makedirs(target, exist_ok=True)
    for old in os.listdir(target):
        os.remove(os.path.join(target, old))
    for name, value in stages.items():
        np.save(os.path.join(target, name + ".npy"), np.ascontiguousarray(value))


def main():
    folder, cases, out = sys.argv[1:4]
    for case in json.load(open(cases, encoding="utf-8")):
        with tempfile.TemporaryDirectory() as work:
            model = with_scheduler(folder, case["scheduler"], work) if "scheduler" in case else folder
            stages = run(model, case["request"])
        save(stages, os.path.join(out, case["name"]))
        print(case["name"], len(stages), "stages; last latents", float(np.abs(stages["image"]).mean()), flush=True)


if __name__ == "__main__":
    main()
