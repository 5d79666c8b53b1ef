#!/usr/bin/env python3
"""Times OpenVINO's CPU plugin; a process of tools/bench_peers/run.py.

    peer_openvino.py --case unet_512 [--case unet_512_cfg ...] --type f32|f16|bf16 --work DIR [--runs N] [--threads N]
    peer_openvino.py --convert unet|vae --work DIR

A case picture_STEPS_SIZE is what a picture without guidance takes of networks: STEPS calls of the UNet, then one of the decoder. Text encoders,
sampler and the file are left out, in this program's favour: Darkroom's own seconds have them.

The network is converted from diffusers once, with 16-bit weights, and kept in DIR. --type is a hint; `type` of the answer is what the plugin computed in. Prints one JSON line a case, as peer_torch.py does.
"""
import argparse
import gc
import json
import os
import resource
import time

from watch import timed


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", action="append", default=[])
    parser.add_argument("--convert", choices=("unet", "vae"))
    parser.add_argument("--type", choices=("f32", "f16", "bf16"), default="f32")
    parser.add_argument("--work", required=True)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    return parser.parse_args()


def path(work, network):
    return os.path.join(work, f"{network}.xml")


def convert(work, network):
    import openvino
    import torch
    from openvino.frontend.pytorch.patch_model import __make_16bit_traceable as make_traceable

    import networks

    class Traced(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, *inputs):
            if network == "vae":
                return self.model.decode(*inputs, return_dict=False)[0]
            sample, step, text, pooled, ids = inputs
            added = {"text_embeds": pooled, "time_ids": ids}
            return self.model(sample, step, text, added_cond_kwargs=added, return_dict=False)[0]

    model = Traced(getattr(networks, network)(torch.float16))
    make_traceable(model)
    inputs = networks.unet_inputs(512, 1, torch.float32)
    example = inputs if network == "unet" else inputs[:1]
    os.makedirs(work, exist_ok=True)
    partial = os.path.join(work, f"{network}_partial.xml")
    with torch.no_grad():
        openvino.save_model(openvino.convert_model(model, example_input=example), partial, compress_to_fp16=True)
    os.rename(partial[:-3] + "bin", path(work, network)[:-3] + "bin")
    os.rename(partial, path(work, network))


def compiled(core, o, network, size, batch):
    """(a call of the network with random inputs, seconds of compiling, the type it computes in)"""
    import numpy
    import openvino

    model = core.read_model(path(o.work, network))
    edge = size // 8
    shapes = [[batch, 4, edge, edge], [], [batch, 77, 2048], [batch, 1280], [batch, 6]]
    shapes = shapes if network == "unet" else shapes[:1]
    model.reshape({i.get_any_name(): openvino.PartialShape(s) for i, s in zip(model.inputs, shapes)})
    start = time.perf_counter()
    config = {"INFERENCE_PRECISION_HINT": o.type, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": o.threads}
    program = core.compile_model(model, "CPU", config)
    compiling = time.perf_counter() - start
    random = numpy.random.default_rng(1)
    inputs = [random.standard_normal(s, numpy.float32) if s else numpy.array(500.0, numpy.float32) for s in shapes]
    if network == "unet":
        inputs[-1] = numpy.array([[size, size, 0, 0, size, size]] * batch, numpy.float32)
    return lambda: program(inputs), compiling, program.get_property("INFERENCE_PRECISION_HINT").get_type_name()


def measure(core, o, network, size, batch, steps):
    import numpy

    call, compiling, used = compiled(core, o, "unet" if network == "picture" else network, size, batch)
    decode = None
    if network == "picture":
        decode, more, _ = compiled(core, o, "vae", size, batch)
        compiling += more

    def run():
        for _ in range(steps):
            result = call()
        return decode() if decode else result

    first, best, result = timed(run, o.runs)
    assert bool(numpy.isfinite(result[0]).all()), "not finite"
    return {**best, "first": first, "compile": compiling, "type": used}


def case(name):
    words = name.split("_")
    numbers = [int(word) for word in words if word.isdigit()]
    return words[0], numbers[-1], 2 if words[-1] == "cfg" else 1, numbers[0] if len(numbers) > 1 else 1


def main():
    o = options()
    if o.convert:
        convert(o.work, o.convert)
        return
    import openvino

    core = openvino.Core()
    alone = {}
    for name in o.case:
        network, size, batch, steps = case(name)
        answer = {"case": name, **measure(core, o, network, size, batch, steps)}
        gc.collect()
        if batch == 1:
            alone[size] = answer["seconds"]
        else:
            if size not in alone:
                alone[size] = measure(core, o, network, size, 1, steps)["seconds"]
            answer.update(batch_2=answer["seconds"], twice_batch_1=2 * alone[size])
            answer["seconds"] = min(answer["seconds"], 2 * alone[size])
        answer["rss_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
