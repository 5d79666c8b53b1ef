#!/usr/bin/env python3
"""Trains the small SDXL that ships in share/models/tiny.

usage: train.py WORK_FOLDER [--export MODEL_FOLDER] [--only STAGE] [--vae-steps N] [--unet-steps N]

Stages: vae, latents, unet, export.  Each leaves checkpoints in WORK_FOLDER and goes on from them when it is
started again; the numbers of a step depend on its number alone, so a run cut short and resumed is the same
run.  `--only export` makes a model of whatever checkpoints there are.
"""
import argparse
import os
import resource
import time

import torch


def seconds():
    """What this program and its forks have spent of processors' time."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("work")
    parser.add_argument("--export", default=None)
    parser.add_argument("--only", choices=("vae", "latents", "unet", "export"))
    parser.add_argument("--vae-steps", type=int, default=1800)
    parser.add_argument("--unet-steps", type=int, default=4600)
    args = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    torch.set_num_threads(1)
    os.makedirs(args.work, exist_ok=True)

    import common
    import export
    import train_unet
    import train_vae

    stages = {
        "vae": lambda: train_vae.run(args.work, args.vae_steps),
        "latents": lambda: train_unet.make_latents(args.work),
        "unet": lambda: train_unet.run(args.work, args.unet_steps),
        "export": lambda: export.run(args.work, args.export or os.path.join(args.work, "model")),
    }
    for name, stage in stages.items():
        if args.only in (None, name):
            began, spent = time.time(), seconds()
            stage()
            print(f"stage {name}: {time.time() - began:.0f}s, of processors {seconds() - spent:.0f}s", flush=True)


if __name__ == "__main__":
    main()
