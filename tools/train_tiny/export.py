"""The last stage: the averaged weights of the latest checkpoints as a diffusers folder in float16."""
import json
import os
import shutil

import safetensors.torch
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTokenizer

import common
import train_unet
import train_vae

SCHEDULER = dict(
    num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
    prediction_type="epsilon", interpolation_type="linear", use_karras_sigmas=False,
    timestep_spacing="leading", steps_offset=1)
# Keys that other samplers' classes read and the file's own class does not write.
OTHER_CLASSES = dict(clip_sample=False, clip_sample_range=1.0, sample_max_value=1.0, set_alpha_to_one=False,
                     skip_prk_steps=True, thresholding=False)
PARTS = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")


def pipeline(work):
    """The whole model as a StableDiffusionXLPipeline, its weights rounded to float16."""
    model, step = train_unet.load(work)
    vae = train_vae.load(work)
    scale = torch.load(os.path.join(work, "latents.pt"))["scale"]
    vae.register_to_config(scaling_factor=scale)
    tokenizers = [CLIPTokenizer.from_pretrained(os.path.join(work, n)) for n in ("tokenizer", "tokenizer_2")]
    pipe = StableDiffusionXLPipeline(
        vae=vae, text_encoder=model.text, text_encoder_2=model.text_2, tokenizer=tokenizers[0],
        tokenizer_2=tokenizers[1], unet=model.unet, scheduler=EulerDiscreteScheduler(**SCHEDULER),
        force_zeros_for_empty_prompt=True, add_watermarker=False)
    for part in (pipe.vae, pipe.unet, pipe.text_encoder, pipe.text_encoder_2):
        part.to(torch.float16)
    return pipe, step


def run(work, folder):
    pipe, step = pipeline(work)
    for part in PARTS:
        shutil.rmtree(os.path.join(folder, part), ignore_errors=True)
    pipe.save_pretrained(folder)
    say_all_keys(os.path.join(folder, "scheduler", "scheduler_config.json"))
    for name in ("tokenizer", "tokenizer_2"):  # as CLIP's own folders are: vocabulary and merges, no tokenizer.json
        shutil.rmtree(os.path.join(folder, name))
        shutil.copytree(os.path.join(work, name), os.path.join(folder, name))
    published_names(os.path.join(folder, "text_encoder", "model.safetensors"))
    for base, _, files in os.walk(folder):
        for name in files:
            os.chmod(os.path.join(base, name), 0o644)
            if name.endswith(".json"):
                tidy(os.path.join(base, name))
    counts = {n: sum(p.numel() for p in getattr(pipe, n).parameters())
              for n in ("unet", "vae", "text_encoder", "text_encoder_2")}
    print("exported", folder, "from step", step, counts, flush=True)


def published_names(path):
    """The first encoder's tensors under "text_model.", as in SDXL's own folders; newer transformers drop the prefix."""
    tensors = safetensors.torch.load_file(path)
    named = {k if k.startswith("text_model.") else "text_model." + k: v for k, v in tensors.items()}
    safetensors.torch.save_file(named, path, metadata={"format": "pt"})


def say_all_keys(path):
    with open(path, encoding="utf-8") as f:
        doc = json.load(f)
    doc.update(OTHER_CLASSES)
    with open(path, "w", encoding="utf-8") as f:
        f.write(json.dumps(doc, indent=2, sort_keys=True) + "\n")


def tidy(path):
    """Takes out what would name this machine's folders; encoders compute in float32 unless configured otherwise."""
    with open(path, encoding="utf-8") as f:
        doc = json.load(f)
    if "_name_or_path" in doc or "dtype" in doc:
        doc.pop("_name_or_path", None)
        doc["dtype"] = "float32"
        with open(path, "w", encoding="utf-8") as f:
            f.write(json.dumps(doc, indent=2) + "\n")
