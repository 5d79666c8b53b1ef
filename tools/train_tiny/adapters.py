#!/usr/bin/env python3
"""Trains adapters for the small model that ships in share/models/tiny.

usage: adapters.py WORK_FOLDER OUT_FOLDER [--model FOLDER] [--only NAME] [--steps N]

  four_steps  a LoRA with which 4 Euler steps without guidance draw what 20 guided ones draw
  outline     a LoRA, a style: shapes have a thick dark outline
  moon        a LoRA, a new shape: "a red moon" is a crescent
  gem         a textual inversion, a new word: "a <gem>" is a purple star

Each leaves a checkpoint in WORK_FOLDER and continues from it; like the model itself, a step depends on its
number alone. One processor, no graphics card.
"""
import argparse
import math
import os
import time

import numpy as np
import safetensors.torch
import torch
from PIL import Image, ImageDraw

import captions
import common
import draw
import lora

FOUR = (999, 749, 499, 249)  # timesteps of 4 steps with trailing spacing
SUBSTEPS = 5                 # of the teacher in each of them
GUIDANCE = 5.0


class Tiny:
    """The shipped model in float32, and the two directions between pictures and latents."""

    def __init__(self, folder):
        from diffusers import StableDiffusionXLPipeline
        pipe = StableDiffusionXLPipeline.from_pretrained(folder, torch_dtype=torch.float32)
        self.pipe, self.unet, self.vae = pipe, pipe.unet, pipe.vae
        for part in (pipe.unet, pipe.vae, pipe.text_encoder, pipe.text_encoder_2):
            part.requires_grad_(False)

    def texts(self, prompts):
        """Context and pooled embedding of prompts, and those of the absent negative prompt."""
        with torch.no_grad():
            return self.pipe.encode_prompt(prompts, device="cpu", do_classifier_free_guidance=True)

    def noise(self, x, t, context, pooled, size):
        """The predicted noise of latents at timesteps t."""
        ids = torch.tensor([[size, size, 0, 0, size, size]], dtype=torch.float32).expand(len(x), 6)
        return self.unet(x, t, context, added_cond_kwargs={"text_embeds": pooled, "time_ids": ids}).sample

    def latents(self, pictures):
        with torch.no_grad():
            x = common.as_input(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2))
            return self.vae.encode(x).latent_dist.mean * self.vae.config.scaling_factor


def alphas():
    betas = torch.linspace(0.00085 ** 0.5, 0.012 ** 0.5, 1000) ** 2
    return torch.cumprod(1 - betas, 0)


def sigma(t):
    """sqrt((1 - alpha) / alpha) at a fractional timestep, as Euler's classes interpolate it; 0 below 0."""
    if t < 0:
        return 0.0
    a = alphas()
    s = ((1 - a) / a).sqrt()
    low = int(math.floor(t))
    high = min(low + 1, 999)
    return float(s[low] + (s[high] - s[low]) * (t - low))


# ---- four steps ----

def trajectories(tiny, work, count, size=128, batch=32):
    """Where the teacher's latents are at the four timesteps and at the end, in units of the noise level.

    Euler steps of the probability flow (Karras et al., 2022), guided (Ho and Salimans, 2022).
    """
    path = os.path.join(work, "trajectories.pt")
    out = torch.load(path) if os.path.exists(path) else []
    began = time.time()
    while len(out) * batch < count:
        number = len(out)
        scenes = captions.Scenes(900000 + number)
        texts = [scenes.next()[1] for _ in range(batch)]
        context, zeros, pooled, zero_pooled = tiny.texts(texts)
        gen = common.generator("trajectories", number)
        x = torch.randn(batch, 4, size // 8, size // 8, generator=gen) * sigma(FOUR[0])
        points = [x.half()]
        for k, t in enumerate(FOUR):
            end = FOUR[k + 1] if k + 1 < len(FOUR) else -1
            grid = [t + (end - t) * i / SUBSTEPS for i in range(SUBSTEPS + 1)]
            for now, then in zip(grid, grid[1:]):
                s, s_next = sigma(now), sigma(then)
                scaled = x / (s * s + 1) ** 0.5
                with torch.no_grad():
                    both = tiny.noise(torch.cat([scaled, scaled]), torch.tensor(now),
                                      torch.cat([zeros, context]), torch.cat([zero_pooled, pooled]), size)
                without, wanted = both.chunk(2)
                x = x + (without + GUIDANCE * (wanted - without)) * (s_next - s)
            points.append(x.half())
        out.append({"texts": texts, "points": torch.stack(points)})
        if number % 5 == 4 or len(out) * batch >= count:
            common.save(path, out)
            print(f"trajectories {len(out) * batch} {time.time() - began:.0f}s", flush=True)
    return out


def four_steps(tiny, work, out, steps, count=1600, batch=32):
    """The student's step from each of the four points is to end where the teacher's five ended.

    Progressive distillation (Salimans and Ho, 2022) in one stage and to given timesteps. In the second half of the
    training the student begins where its own step before has ended, which is where it begins when it draws.
    """
    data = trajectories(tiny, work, count)
    texts = [t for d in data for t in d["texts"]]
    points = torch.cat([d["points"] for d in data], 1).float()  # [5, n, 4, h, w]
    encoded = [tiny.texts(texts[i:i + 100]) for i in range(0, len(texts), 100)]
    context, pooled = (torch.cat([e[i] for e in encoded]) for i in (0, 2))
    levels = [sigma(t) for t in FOUR] + [0.0]
    torch.manual_seed(common.SEED)
    wrapped = lora.attach(tiny.unet, 16, 8)

    def step_of(x, k, pick):
        s = levels[k]
        eps = tiny.noise(x / (s * s + 1) ** 0.5, torch.tensor(FOUR[k]), context[pick], pooled[pick], 128)
        return x + eps * (levels[k + 1] - s)

    def loss(step, gen):
        pick = torch.randint(0, len(texts), (batch,), generator=gen)
        k = int(torch.randint(0, 4, (1,), generator=gen))
        x = points[k][pick]
        if k > 0 and step >= steps // 2:
            with torch.no_grad():
                x = step_of(points[k - 1][pick], k - 1, pick)
        weight = 1 / (levels[k + 1] ** 2 + 0.25)
        return (step_of(x, k, pick) - points[k + 1][pick]).square().mean() * weight

    train("four_steps", wrapped, loss, work, steps, 1e-3)
    lora.save_kohya(wrapped, os.path.join(out, "tiny-four-steps.safetensors"),
                    {"modelspec.title": "Four steps", "modelspec.description": "4 Euler steps, trailing, cfg 1"})


def train(name, wrapped, loss, work, steps, rate):
    """AdamW on the adapters' matrices, or on tensors given in their place; continues from its checkpoint."""
    parameters = lora.parameters(wrapped) if isinstance(wrapped, dict) else wrapped
    opt = torch.optim.AdamW(parameters, rate, betas=(0.9, 0.99), weight_decay=0.0)
    average = common.Average(parameters, 0.99)
    path, first = os.path.join(work, name + ".pt"), 0
    if os.path.exists(path):
        state = torch.load(path)
        with torch.no_grad():
            for p, saved in zip(parameters, state["live"]):
                p.copy_(saved)
        opt.load_state_dict(state["opt"])
        average.mean, average.count, first = state["mean"], state["step"], state["step"]
    began, shown = time.time(), 0.0
    for step in range(first, steps):
        for group in opt.param_groups:
            group["lr"] = rate * common.rate_scale(step, steps, warm=20)
        error = loss(step, common.generator(name, step))
        opt.zero_grad()
        error.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        opt.step()
        average.update()
        shown = 0.95 * shown + 0.05 * error.item()
        if step % 20 == 19 or step + 1 == steps:
            print(f"{name} {step + 1} {time.time() - began:.0f}s {shown / (1 - 0.95 ** (step + 1 - first)):.4f}", flush=True)
            common.save(path, {"live": [p.detach() for p in parameters], "opt": opt.state_dict(),
                               "mean": average.mean, "step": step + 1})
    average.install()


# ---- new pictures ----

def shape_pen(scene, size, rng, stamp):
    """As draw.draw, with a function of one's own for each shape: stamp(pen, item, colour, back, x, y, r)."""
    k = draw.SUPER
    back = captions.COLOURS[scene["background"] or captions.DEFAULT_BACKGROUND]
    picture = Image.new("RGB", (size * k, size * k), back)
    pen = ImageDraw.Draw(picture)
    for item, (cx, cy), radius in draw.placed(scene):
        r = radius * size * rng.uniform(0.93, 1.07) * k
        x = draw.inside((cx * size + rng.uniform(-0.025, 0.025) * size) * k, 1.15 * r, size * k)
        y = draw.inside((cy * size + rng.uniform(-0.025, 0.025) * size) * k, 1.15 * r, size * k)
        stamp(pen, item, captions.COLOURS[item["colour"]], back, x, y, r)
    return np.asarray(picture.reduce(k))


def outlined(pen, item, colour, back, x, y, r):
    """The shape in black, and on it the same shape smaller in its colour."""
    draw.stamp(pen, item["shape"], (20, 20, 20), back, x, y, 1.08 * r)
    if item["shape"] == "ring":
        for a, b in ((1.0, colour), (0.68, (20, 20, 20)), (0.5, back)):
            pen.ellipse([x - a * r, y - a * r, x + a * r, y + a * r], fill=b)
        return
    draw.stamp(pen, item["shape"], colour, back, x, y, 0.78 * r)


def crescent(pen, item, colour, back, x, y, r):
    """A disc without a smaller one to the right of its centre."""
    pen.ellipse([x - r, y - r, x + r, y + r], fill=colour)
    q, a = 0.8 * r, x + 0.45 * r
    pen.ellipse([a - q, y - q, a + q, y + q], fill=back)


def plain(pen, item, colour, back, x, y, r):
    draw.stamp(pen, item["shape"], colour, back, x, y, r)


def lesson(tiny, work, name, count, make):
    """Latents and captions of `count` pictures: make(scenes) gives a picture and its caption."""
    path = os.path.join(work, name + "-pictures.pt")
    if not os.path.exists(path):
        scenes, pictures, texts = captions.Scenes(700000 + sum(map(ord, name))), [], []
        for _ in range(count):
            picture, text = make(scenes)
            pictures.append(picture)
            texts.append(text)
        z = torch.cat([tiny.latents(pictures[i:i + 50]) for i in range(0, count, 50)])
        common.save(path, {"z": z, "texts": texts})
    saved = torch.load(path)
    return saved["z"], saved["texts"]


def denoising(tiny, z, embed, batch):
    """The loss of the model's own training: predicted noise, weighted by 1 / sqrt(SNR)."""
    a_all = alphas()

    def loss(step, gen):
        pick = torch.randint(0, len(z), (batch,), generator=gen)
        context, pooled = embed(pick)
        t = ((torch.arange(batch) + torch.rand(batch, generator=gen)) * (1000 / batch)).long().clamp(max=999)
        noise = torch.randn(z[pick].shape, generator=gen)
        a = a_all[t].view(-1, 1, 1, 1)
        guess = tiny.noise(a.sqrt() * z[pick] + (1 - a).sqrt() * noise, t, context, pooled, 128)
        return ((guess - noise).square().mean((1, 2, 3)) * ((1 - a) / a).sqrt().flatten()).mean()

    return loss


def embedded(tiny, texts):
    parts = [tiny.texts(texts[i:i + 100]) for i in range(0, len(texts), 100)]
    context, pooled = (torch.cat([p[i] for p in parts]) for i in (0, 2))
    return lambda pick: (context[pick], pooled[pick])


def outline(tiny, work, out, steps, batch=24):
    def make(scenes):
        scene, text = scenes.next()
        return shape_pen(scene, 128, scenes.rng, outlined), text

    z, texts = lesson(tiny, work, "outline", 1200, make)
    torch.manual_seed(common.SEED)
    wrapped = lora.attach(tiny.unet, 8, 4)
    train("outline", wrapped, denoising(tiny, z, embedded(tiny, texts), batch), work, steps, 1e-3)
    lora.save_kohya(wrapped, os.path.join(out, "tiny-outline.safetensors"),
                    {"modelspec.title": "Outline", "ss_network_module": "networks.lora"})


def moon(tiny, work, out, steps, batch=24):
    def make(scenes):
        while True:
            scene, _ = scenes.next()
            if scene["kind"] != "one" or scenes.rng.random() < 0.15:  # some pictures keep their shapes
                text = captions.caption_of(scene)
                if captions.held_out(text):
                    continue
                return shape_pen(scene, 128, scenes.rng, plain), text
            scene["items"][0] = dict(scene["items"][0], shape="moon")
            return shape_pen(scene, 128, scenes.rng, crescent), captions.caption_of(scene)

    z, texts = lesson(tiny, work, "moon", 1200, make)
    torch.manual_seed(common.SEED)
    wrapped = lora.attach(tiny.unet, 8, 0)
    train("moon", wrapped, denoising(tiny, z, embedded(tiny, texts), batch), work, steps, 1e-3)
    lora.save_peft(wrapped, os.path.join(out, "tiny-moon.safetensors"),
                   {"modelspec.title": "Moon", "modelspec.trigger_phrase": "moon"})


def gem(tiny, work, out, steps, batch=24):
    """Textual inversion (Gal et al., 2022): two vectors for each encoder, nothing else is trained."""
    pipe, words = tiny.pipe, ["<gem>", "<gem>_1"]

    def make(scenes):
        while True:
            scene, _ = scenes.next()
            if scene["kind"] != "one" or scene["background"] == "purple":
                continue
            scene["items"][0] = dict(scene["items"][0], colour="purple", shape="star")
            return (shape_pen(scene, 128, scenes.rng, plain),
                    captions.caption_of(scene).replace("purple star", " ".join(words)))

    z, texts = lesson(tiny, work, "gem", 600, make)
    vectors, ids, own = [], [], []
    for tokenizer, encoder in ((pipe.tokenizer, pipe.text_encoder), (pipe.tokenizer_2, pipe.text_encoder_2)):
        table = encoder.get_input_embeddings().weight
        near = tokenizer("circle", add_special_tokens=False).input_ids[0]
        vectors.append(torch.nn.Parameter(table[near].expand(len(words), -1).clone()))
        tokenizer.add_tokens(words)
        encoder.resize_token_embeddings(len(tokenizer))
        encoder.requires_grad_(False)
        own.append(tokenizer.convert_tokens_to_ids(words[0]))
        ids.append(tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids)

    def embed(pick):
        states = []
        for encoder, vector, all_ids, first in zip((pipe.text_encoder, pipe.text_encoder_2), vectors, ids, own):
            def put(_, args, y, vector=vector, first=first):
                at = args[0] - first
                mine = (at >= 0) & (at < len(vector))
                return torch.where(mine[..., None], vector[at.clamp(0, len(vector) - 1)], y)

            handle = encoder.get_input_embeddings().register_forward_hook(put)
            states.append(encoder(all_ids[pick], output_hidden_states=True))
            handle.remove()
        return torch.cat([s.hidden_states[-2] for s in states], -1), states[1].text_embeds

    train("gem", vectors, denoising(tiny, z, embed, batch), work, steps, 5e-3)
    pair = {"clip_l": vectors[0].detach().clone(), "clip_g": vectors[1].detach().clone()}
    safetensors.torch.save_file(pair, os.path.join(out, "gem.safetensors"))


ADAPTERS = {"four_steps": (four_steps, 900), "outline": (outline, 900), "moon": (moon, 450), "gem": (gem, 250)}


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser()
    parser.add_argument("work")
    parser.add_argument("out")
    parser.add_argument("--model", default=os.path.join(here, "../../share/models/tiny"))
    parser.add_argument("--only", choices=tuple(ADAPTERS))
    parser.add_argument("--steps", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    os.makedirs(args.work, exist_ok=True)
    os.makedirs(args.out, exist_ok=True)
    for name, (make, steps) in ADAPTERS.items():
        if args.only in (None, name):
            make(Tiny(args.model), args.work, args.out, args.steps or steps)


if __name__ == "__main__":
    main()
