#!/usr/bin/env python3
"""Times PyTorch with diffusers; a process of tools/bench_peers/run.py.

    peer_torch.py --case unet_512 [--case unet_512_cfg ...] --type f32|f16|bf16 [--compile] [--runs N] [--threads N]

All cases must be of one network. Prints one JSON line a case: seconds is the least of N runs after a first one. A CFG pair counts
as the faster of a batch of two and twice a batch of one.
"""
import argparse
import json
import os
import resource

import torch

from networks import TYPES, case, unet, unet_inputs, vae
from watch import timed


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", action="append", required=True)
    parser.add_argument("--type", choices=TYPES, default="f32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    return parser.parse_args()


def measure(run, runs):
    first, best, result = timed(run, runs)
    assert bool(torch.isfinite(result).all()), "not finite"
    return {**best, "first": first}


def runner(model, network, size, batch, dtype):
    if network == "vae":
        latent = torch.randn(batch, 4, size // 8, size // 8).to(dtype).to(memory_format=torch.channels_last)
        return lambda: model(latent)
    sample, step, text, pooled, ids = unet_inputs(size, batch, dtype)
    sample = sample.to(memory_format=torch.channels_last)
    added = {"text_embeds": pooled, "time_ids": ids}
    return lambda: model(sample, step, text, added_cond_kwargs=added, return_dict=False)[0]


def main():
    o = options()
    dtype = TYPES[o.type]
    torch.set_num_threads(o.threads)
    torch.manual_seed(1)
    network = case(o.case[0])[0]
    whole = (unet if network == "unet" else vae)(dtype).to(memory_format=torch.channels_last)
    model = whole if network == "unet" else lambda latent: whole.decode(latent, return_dict=False)[0]
    if o.compile:
        import torch._inductor.config as inductor

        inductor.freezing = True
        model = torch.compile(model)
    alone = {}
    with torch.no_grad():
        for name in o.case:
            _, size, batch = case(name)
            answer = {"case": name, **measure(runner(model, network, size, batch, dtype), o.runs)}
            if batch == 1:
                alone[size] = answer["seconds"]
            else:
                if size not in alone:
                    alone[size] = measure(runner(model, network, size, 1, dtype), o.runs)["seconds"]
                answer.update(batch_2=answer["seconds"], twice_batch_1=2 * alone[size])
                answer["seconds"] = min(answer["seconds"], 2 * alone[size])
            answer["rss_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
