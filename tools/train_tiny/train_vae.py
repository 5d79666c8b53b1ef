"""Stage 1: the autoencoder.  Crops of 64 px about an edge for speed, whole pictures of 128 px so that its attention and
its normalisation see whole pictures too.  Loss: absolute and squared error, once over all pixels and once over those
near an edge, which are few and are what a small shape is made of; the absolute error of the differences between
neighbours, which keeps edges crisp; a weak pull of the latents to N(0, 1).
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

PULL = 2e-4


def pictures(count, side, seed):
    scenes = captions.Scenes(seed)
    return torch.from_numpy(
        np.stack([draw.draw(scenes.next()[0], side, side, scenes.rng) for _ in range(count)])).permute(0, 3, 1, 2)


def near_edges(x):
    """float [n, h, w]: 1 within two pixels of a step in the float pictures [n, 3, h, w], else 0."""
    step = F.pad(x.diff(dim=-1).abs().amax(1), (0, 1)) + F.pad(x.diff(dim=-2).abs().amax(1), (0, 0, 0, 1))
    return F.max_pool2d((step > 0.05 * 2).float()[:, None], 5, 1, 2)[:, 0]


def picture_loss(y, x):
    d, near = (y - x).abs(), near_edges(x)
    each = d.mean(1) + d.square().mean(1)
    dx, dy = (y - x).diff(dim=-1), (y - x).diff(dim=-2)
    return (each.mean() + 0.3 * (each * near).sum() / near.sum().clamp(min=1)
            + 0.5 * (dx.abs().mean() + dy.abs().mean()))


def optimiser(vae, rate, other_rate):
    """Muon for the inner matrices and kernels, AdamW for ends, norms and biases."""
    ends = ("conv_in", "conv_out", "quant_conv")
    inner = [p for n, p in vae.named_parameters() if p.requires_grad and p.ndim >= 2 and not any(e in n for e in ends)]
    known = {id(p) for p in inner}
    others = [p for p in vae.parameters() if p.requires_grad and id(p) not in known]
    return Muon(inner, others, rate, other_rate)


def batch(small, large, step, steps, gen):
    """A third of the steps, and most of the last fifth, see 8 whole pictures; the others 32 crops."""
    pick = lambda n, count: torch.randint(0, n, (count,), generator=gen)
    if step % 3 == 0 or (step > 0.8 * steps and step % 4):
        return common.as_input(small[pick(len(small), 8)])
    source = large if step % 5 == 0 else small
    some = source[pick(len(source), 32)]
    crops = []
    for picture, near in zip(some, near_edges(some.float() / 127.5)):
        spots = near.nonzero()
        spot = spots[int(pick(len(spots), 1))]
        top, left = (spot - pick(64, 2)).clamp(0, source.shape[-1] - 64).tolist()
        crops.append(picture[:, top:top + 64, left:left + 64])
    return common.as_input(torch.stack(crops))


def run(work, steps):
    """Trains to the given number of steps from the latest checkpoint."""
    common.together(train, work, steps)


def train(rank, processes, work, steps):
    """One of the processes; the first of them reports and saves."""
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
        noise = torch.randn((len(x), 4, x.shape[-2] // 8, x.shape[-1] // 8), generator=gen)
        x, noise = x[rank::processes].contiguous(memory_format=torch.channels_last), noise[rank::processes]
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(x).latent_dist
        mean, std = posterior.mean.float(), posterior.std.float()
        with torch.autocast("cpu", torch.bfloat16):
            y = vae.decode(mean + std * noise).sample
        pull = 0.5 * (mean.square() + std.square() - 1 - 2 * std.log()).mean()
        loss = picture_loss(y.float(), x) + PULL * pull
        for p in vae.parameters():
            p.grad = None
        loss.backward()
        opt.clip()
        opt.step(common.rate_scale(step, steps))
        ema.update()
        shown = 0.98 * shown + 0.02 * F.mse_loss(y.float(), x).item()
        if rank == 0 and step % 50 == 49:
            print(f"vae {step + 1} {time.time() - began:.0f}s mse {shown / (1 - 0.98 ** (step + 1 - first)):.5f} "
                  f"pull {pull.item():.2f} std {std.mean().item():.3f} of {mean.std().item():.3f}", flush=True)
        if rank == 0 and ((step + 1) % 100 == 0 or step + 1 == steps):
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
