"""Stage 1: the autoencoder.  Crops of 64 px for speed, whole pictures of 128 px so that its attention and its
normalisation see whole pictures too.  Loss: absolute and squared error, and the absolute error of the
differences between neighbours, which is what keeps edges crisp; a weak pull of the latents to N(0, 1).
"""
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image

import captions
import common
import draw
from optim import Muon


def pictures(count, side, seed):
    scenes = captions.Scenes(seed)
    return torch.from_numpy(
        np.stack([draw.draw(scenes.next()[0], side, side, scenes.rng) for _ in range(count)])).permute(0, 3, 1, 2)


def picture_loss(y, x):
    dx, dy = (y - x).diff(dim=-1), (y - x).diff(dim=-2)
    return F.l1_loss(y, x) + F.mse_loss(y, x) + 0.5 * (dx.abs().mean() + dy.abs().mean())


def optimiser(vae, rate, other_rate):
    """Muon for the inner matrices and kernels, AdamW for ends, norms and biases."""
    ends = ("conv_in", "conv_out", "quant_conv")
    inner = [p for n, p in vae.named_parameters() if p.requires_grad and p.ndim >= 2 and not any(e in n for e in ends)]
    known = {id(p) for p in inner}
    others = [p for p in vae.parameters() if p.requires_grad and id(p) not in known]
    return Muon(inner, others, rate, other_rate)


def batch(small, large, step, steps, gen):
    """A third of the steps, and most of the last fifth, see 4 whole pictures; the others 16 crops."""
    pick = lambda n, count: torch.randint(0, n, (count,), generator=gen)
    if step % 3 == 0 or (step > 0.8 * steps and step % 4):
        return common.as_input(small[pick(len(small), 4)])
    source = large if step % 5 == 0 else small
    room = source.shape[-1] - 64
    top, left = (int(v) for v in pick(room + 1, 2))
    return common.as_input(source[pick(len(source), 16)][:, :, top:top + 64, left:left + 64])


def run(work, steps):
    path = os.path.join(work, "vae.pt")
    torch.manual_seed(common.SEED)
    vae = AutoencoderKL(**common.VAE).to(memory_format=torch.channels_last)
    opt = optimiser(vae, 0.02, 2e-3)
    ema = common.Average(vae.parameters(), 0.998)
    first = 0
    if os.path.exists(path):
        state = torch.load(path)
        vae.load_state_dict(state["live"])
        opt.load_state_dict(state["opt"])
        ema.mean, ema.count, first = state["ema"], state["step"], state["step"]
        if first >= steps:
            return
    small, large = pictures(8000, 128, 1), pictures(1500, 192, 2)
    began, shown = time.time(), 0.0
    for step in range(first, steps):
        gen = common.generator("vae", step)
        x = batch(small, large, step, steps, gen)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(x).latent_dist
        mean, std = posterior.mean.float(), posterior.std.float()
        z = mean + std * torch.randn(mean.shape, generator=gen)
        with torch.autocast("cpu", torch.bfloat16):
            y = vae.decode(z).sample
        pull = 0.5 * (mean.square() + std.square() - 1 - 2 * std.log()).mean()
        loss = picture_loss(y.float(), x) + 1e-4 * pull
        for p in vae.parameters():
            p.grad = None
        loss.backward()
        opt.clip()
        opt.step(common.rate_scale(step, steps))
        ema.update()
        shown = 0.98 * shown + 0.02 * F.mse_loss(y.float(), x).item()
        if step % 50 == 49:
            print(f"vae {step + 1} {time.time() - began:.0f}s mse {shown / (1 - 0.98 ** (step + 1 - first)):.5f} "
                  f"pull {pull.item():.2f} std {std.mean().item():.3f} of {mean.std().item():.3f}", flush=True)
        if (step + 1) % 300 == 0 or step + 1 == steps:
            common.save(path, {"live": vae.state_dict(), "opt": opt.state_dict(), "ema": ema.mean, "step": step + 1})
            show(vae, ema, small[:6], os.path.join(work, "vae.png"))


def load(work):
    """The averaged autoencoder of the latest checkpoint."""
    vae = AutoencoderKL(**common.VAE)
    average = common.Average(vae.parameters())
    average.mean = torch.load(os.path.join(work, "vae.pt"))["ema"]
    average.install()
    return vae.eval().to(memory_format=torch.channels_last)


def show(vae, ema, some, path):
    live = [p.detach().clone() for p in ema.live]
    ema.install()
    with torch.no_grad():
        x = common.as_input(some)
        y = vae.decode(vae.encode(x).latent_dist.mean).sample
        for p, v in zip(ema.live, live):
            p.copy_(v)
    Image.fromarray(common.sheet([x, y])).save(path)
