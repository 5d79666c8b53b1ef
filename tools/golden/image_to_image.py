#!/usr/bin/env python3
"""Runs of the reference that begin with a picture, for Darkroom to agree with.

    python3 tools/golden/image_to_image.py testing/golden/img2img

Made with the versions of requirements.txt. cases.json is a list of {"name", "model", "request"}: requests as
darkroom-worker takes them, whose pictures lie in the folder (written by this script); "model" is "odd" or one of
families.py. For each case OUT/NAME/ gets init_latents (the picture, encoded, drawn and scaled), latents_init (with the noise of the
first step; not where a mask and strength 1 begin with noise) and latents (the last ones). The pipelines are StableDiffusion(XL)Img2ImgPipeline, and
StableDiffusion(XL)InpaintPipeline where there is a mask, in float32 on the CPU; image i of a batch has its own generator.
"""
import json
import os
import sys
import tempfile

import diffusers
import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.image_processor import VaeImageProcessor
from PIL import Image, ImageFilter

import families
import pipeline

ODD = "testing/golden/odd/model"
MODES = {"crop": "crop", "fit": "fill", "stretch": "default"}


def draw_pictures(out):
    """Photograph-like: smooth, with edges and some noise; and masks for it."""
    rng = np.random.default_rng(16)
    y, x = np.mgrid[0:56, 0:72]
    red = 128 + 90 * np.sin(x / 9.0) * np.cos(y / 7.0)
    green = np.where((x - 40) ** 2 + (y - 25) ** 2 < 200, 220, 60 + y)
    blue = 255 - 2 * x - y
    picture = np.stack([red, green, blue], -1) + rng.normal(0, 4, (56, 72, 3))
    Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(os.path.join(out, "picture.png"), optimize=True)
    mask = (((x - 30) ** 2 + (y - 28) ** 2) < 260) * 255
    Image.fromarray(mask.astype(np.uint8)).save(os.path.join(out, "mask.png"), optimize=True)
    Image.fromarray((np.tile(np.linspace(0, 255, 72), (56, 1))).astype(np.uint8)).save(os.path.join(out, "grey.png"))


def fit_pictures(out):
    """The picture at other sizes, as diffusers' image processor makes it, and the mask blurred, as Pillow does."""
    picture, mask = (Image.open(os.path.join(out, name)) for name in ("picture.png", "mask.png"))
    processor = VaeImageProcessor()
    for name, width, height, mode in (("crop", 40, 64, "crop"), ("fit_wide", 64, 24, "fill"), ("fit_high", 24, 40, "fill"),
                                      ("stretch", 33, 21, "default"), ("larger", 90, 61, "crop")):
        np.save(os.path.join(out, name + ".npy"), np.asarray(processor.resize(picture, height, width, resize_mode=mode)))
    for radius in (0.7, 3.5, 20):
        blurred = np.asarray(mask.filter(ImageFilter.GaussianBlur(radius)))
        np.save(os.path.join(out, "blur_%g.npy" % radius), blurred.reshape(56, 72, 1))


def load(name, work):
    if name == "odd":
        return StableDiffusionXLPipeline.from_pretrained(ODD, torch_dtype=torch.float32, add_watermarker=False)
    return families.load(families.MODELS[name](), None, work)


def sibling(pipe, kind):
    xl = "XL" if pipeline.is_xl(pipe) else ""
    more = {} if xl else {"requires_safety_checker": False}
    if xl:
        more["force_zeros_for_empty_prompt"] = pipe.config.force_zeros_for_empty_prompt
    return getattr(diffusers, "StableDiffusion%s%sPipeline" % (xl, kind))(**pipe.components, **more)


def record(pipe, case, out):
    request, stages, drawn = case["request"], {}, {}
    pipe.scheduler = pipeline.make_scheduler(pipe, request)
    soft = isinstance(request.get("mask"), dict)
    kind = "Inpaint" if "mask" in request and not soft else "Img2Img"
    pipe = sibling(pipe, kind)
    pipe.set_progress_bar_config(disable=True)
    source = Image.open(os.path.join(out, request["image"])).convert("RGB")
    width, height = request.get("width", source.width), request.get("height", source.height)
    mode = MODES[request.get("resize_mode", "crop")]
    image = pipe.image_processor.preprocess(source, height, width, resize_mode=mode)
    scheduler, step = pipe.scheduler, pipe.scheduler.step
    add_noise = scheduler.add_noise

    def recorded_noise(clean, noise, t):
        noisy = add_noise(clean, noise, t)
        if "latents_init" not in stages:
            drawn["noise"] = noise
            stages["init_latents"], stages["latents_init"] = clean.clone(), noisy.clone()
        return noisy

    scheduler.add_noise = recorded_noise
    batch = request.get("batch_size", 1)
    generators = [torch.Generator().manual_seed(request["seed"] + i) for i in range(batch)]
    optional = {"eta": request.get("eta", 0.0)}
    if kind == "Inpaint":
        mask = Image.open(os.path.join(out, request["mask"])).convert("L")
        optional.update(mask_image=pipe.mask_processor.preprocess(mask, height, width, resize_mode=mode), height=height,
                        width=width)
    if soft:  # the rule of the community pipeline for differential image to image: white is drawn anew here
        grey = Image.open(os.path.join(out, request["mask"]["path"])).convert("L")
        share = torch.from_numpy(np.asarray(grey, dtype=np.float32) / 255)[None, None]
        share = torch.nn.functional.interpolate(share, size=(height // 8, width // 8), mode="bilinear", align_corners=False)

        def put_back(pipe, i, t, values):
            times = pipe.scheduler.timesteps[-pipe.num_timesteps:]
            if i + 1 < len(times):
                known = add_noise(stages["init_latents"], drawn["noise"], times[i + 1:i + 2])
                values["latents"] = torch.where(1 - share > (i + 1) / len(times), known, values["latents"])
            return values

        optional["callback_on_step_end"] = put_back
    with torch.no_grad():
        last = pipe(prompt=request["prompt"], negative_prompt=request.get("negative_prompt"), image=image,
                    strength=request["strength"], num_inference_steps=request["steps"],
                    guidance_scale=request["guidance_scale"], num_images_per_prompt=batch,
                    generator=generators if batch > 1 else generators[0], output_type="latent", **optional).images
    if kind == "Inpaint" and request["strength"] == 1:
        del stages["latents_init"]  # it was recorded at the second step
    stages["latents"] = last
    return {name: value.detach().float().numpy().copy() for name, value in stages.items()}


def main():
    out = sys.argv[1]
    torch.set_num_threads(1)
    draw_pictures(out)
    fit_pictures(out)
    for case in json.load(open(os.path.join(out, "cases.json"), encoding="utf-8")):
        with tempfile.TemporaryDirectory() as work:
            stages = record(load(case["model"], work), case, out)
        pipeline.save(stages, os.path.join(out, case["name"]))
        print(case["name"], {k: v.shape for k, v in stages.items()}, flush=True)


if __name__ == "__main__":
    main()
