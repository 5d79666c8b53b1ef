"""Stage 4: the decoder alone, on latents a little wrong, as the denoiser's are.

The encoder stays as it is, so the denoiser's latents keep their meaning.  The error is absolute only, which
has sharp edges where the squared error has the mean of the places an edge might be at.
"""
import os
import time

import torch
import torch.nn.functional as F

import common
import train_vae


def run(work, steps):
    path = os.path.join(work, "decoder.pt")
    vae = train_vae.load(work).train()
    for part in (vae.encoder, vae.quant_conv):
        part.requires_grad_(False)
    opt = train_vae.optimiser(vae, 0.01, 1e-3)
    trained = [p for p in vae.parameters() if p.requires_grad]
    ema = common.Average(trained, 0.995)
    scale = torch.load(os.path.join(work, "latents.pt"))["scale"]
    small, large = train_vae.pictures(8000, 128, 3), train_vae.pictures(1500, 192, 4)
    first = 0
    if os.path.exists(path):
        state = torch.load(path)
        vae.load_state_dict(state["live"])
        opt.load_state_dict(state["opt"])
        ema.mean, ema.count, first = state["ema"], state["step"], state["step"]
    began, shown = time.time(), 0.0
    for step in range(first, steps):
        gen = common.generator("decoder", step)
        x = train_vae.batch(small, large, step, steps, gen)
        with torch.no_grad():
            posterior = vae.encode(x).latent_dist
            z = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=gen)
            amount = 0.08 * torch.rand(len(z), 1, 1, 1, generator=gen) / scale
            z = z + amount * torch.randn(z.shape, generator=gen)
        with torch.autocast("cpu", torch.bfloat16):
            y = vae.decode(z).sample
        y = y.float()
        error = y - x
        loss = error.abs().mean() + 0.5 * (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean())
        for p in trained:
            p.grad = None
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        opt.step(common.rate_scale(step, steps, flat=0.2))
        ema.update()
        shown = 0.98 * shown + 0.02 * F.l1_loss(y, x).item()
        if step % 20 == 19:
            print(f"decoder {step + 1} {time.time() - began:.0f}s "
                  f"l1 {shown / (1 - 0.98 ** (step + 1 - first)):.5f}", flush=True)
        if (step + 1) % 100 == 0 or step + 1 == steps:
            live = {k: v.clone() for k, v in vae.state_dict().items()}
            kept = [p.detach().clone() for p in trained]
            ema.install()
            common.save(path, {"vae": {k: v.clone() for k, v in vae.state_dict().items()}, "live": live,
                               "opt": opt.state_dict(), "ema": ema.mean, "step": step + 1})
            with torch.no_grad():
                for p, k in zip(trained, kept):
                    p.copy_(k)
