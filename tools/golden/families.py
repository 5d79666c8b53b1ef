#!/usr/bin/env python3
"""Small models of the other families, odd in shape, and the reference's runs with them.

    python3 tools/golden/families.py testing/golden/families [NAME...]

Made with the versions of requirements.txt. A model is not kept: MODEL.json says its files, and for each file of
weights the names and shapes of its tensors; the numbers follow from name and index (made below, and by
testing/helpers/made_model.c, to the bit). cases.json and runs/ are as of pipeline.py; a case names its model. A folder
is loaded with from_pretrained, a single file with from_single_file and its own configuration, as users do. NAME: only
these models.
"""
import json
import os
import re
import sys
import tempfile

import diffusers
import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.numpy import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

import fullsize
import networks
import pipeline

ODD_TOKENIZERS = "testing/golden/odd/model"
WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model",
           "text_encoder_2": "model"}
TRAINED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000,
           "steps_offset": 1, "timestep_spacing": "leading", "set_alpha_to_one": False, "clip_sample": False}


# ---- numbers ----

def made(name, shape):
    """Uniform numbers of a splitmix64 sequence whose seed is the FNV-1a hash of the name, scaled by what it is."""
    seed = 0xcbf29ce484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001b3 & 0xffffffffffffffff
    n = int(np.prod(shape, dtype=np.int64))
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9e3779b97f4a7c15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xbf58476d1ce4e5b9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94d049bb133111eb)
        z ^= z >> np.uint64(31)
    u = ((z >> np.uint64(40)).astype(np.float64) / 2 ** 24 * 2 - 1) * np.sqrt(3.0)
    if len(shape) < 2:
        value = u * 0.2 + (1.0 if name.endswith("weight") else 0.0)
    elif "token_embedding" in name or "position" in name:
        value = u * 0.5
    else:
        gain = 1.6 if ".to_q." in name or ".to_k." in name else 1.0
        value = u * (gain / np.sqrt(np.float64(np.prod(shape[1:], dtype=np.int64))))
    return value.astype(np.float32).reshape(shape)


# ---- the names of single files ----

RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
          "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
UNET = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
        "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}


def sgm_unet(name, layers, attends):
    """The name of a UNet's tensor; attends: whether each level has attention, finest first."""
    stem, kind = name.rsplit(".", 1)
    if stem in UNET:
        return UNET[stem] + "." + kind
    at = re.match(r"(down|up|mid)_blocks?\.(?:(\d+)\.)?(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.*)$", stem)
    side, block, part, place, rest = at.groups()
    block, place = int(block or 0), int(place)
    if side == "mid":
        where = "middle_block.%d" % (1 if part == "attentions" else 2 * place)
    elif side == "down":
        where = "input_blocks.%d.%d" % (1 + block * (layers + 1) + (layers if part == "downsamplers" else place),
                                        part == "attentions")
    else:
        last = part == "upsamplers"
        column = (2 if attends[len(attends) - 1 - block] else 1) if last else part == "attentions"
        where = "output_blocks.%d.%d" % (block * (layers + 1) + (layers if last else place), column)
    if part == "resnets":
        rest = RESNET[rest]
    elif part == "downsamplers":
        rest = "op"
    return "%s.%s.%s" % (where, rest, kind)


def sgm_vae(name, levels):
    for old, new in ((r"mid_block\.resnets\.0\.", "mid.block_1."), (r"mid_block\.resnets\.1\.", "mid.block_2."),
                     (r"mid_block\.attentions\.0\.", "mid.attn_1."), (r"group_norm\.", "norm."), (r"to_out\.0\.", "proj_out."),
                     (r"to_([qkv])\.", r"\1."), (r"down_blocks\.(\d+)\.resnets\.", r"down.\1.block."),
                     (r"down_blocks\.(\d+)\.downsamplers\.0\.", r"down.\1.downsample."), (r"conv_norm_out", "norm_out"),
                     (r"conv_shortcut", "nin_shortcut")):
        name = re.sub(old, new, name)
    level = lambda m: "up.%d." % (levels - 1 - int(m.group(1)))
    name = re.sub(r"up_blocks\.(\d+)\.", level, name)
    return name.replace(".resnets.", ".block.").replace("upsamplers.0.", "upsample.")


def single_shapes(unet, vae, text):
    """Names and shapes of a single file with these networks; text: those of its encoders, with their prefixes."""
    config = unet.config
    attends = ["CrossAttn" in kind for kind in config.down_block_types]
    shapes = {"model.diffusion_model." + sgm_unet(name, config.layers_per_block, attends): list(t.shape)
              for name, t in unet.state_dict().items()}
    for name, t in vae.state_dict().items():
        new = sgm_vae(name, len(vae.config.block_out_channels))
        square = ".attn_1." in new and ".norm." not in new and new.endswith("weight")
        shapes["first_stage_model." + new] = list(t.shape) + ([1, 1] if square else [])
    return {**shapes, **text}


def clip_shapes(text, prefix):
    return {prefix + prefixed(name): list(t.shape) for name, t in text.state_dict().items()}


def open_clip_shapes(width, mlp, layers, prefix, vocab=49408):
    """open_clip's text transformer."""
    shapes = {"token_embedding.weight": [vocab, width], "positional_embedding": [77, width],
              "ln_final.weight": [width], "ln_final.bias": [width], "text_projection": [width, width], "logit_scale": []}
    for i in range(layers):
        for name, shape in (("attn.in_proj_weight", [3 * width, width]), ("attn.in_proj_bias", [3 * width]),
                            ("attn.out_proj.weight", [width, width]), ("attn.out_proj.bias", [width]),
                            ("ln_1.weight", [width]), ("ln_1.bias", [width]), ("ln_2.weight", [width]),
                            ("ln_2.bias", [width]), ("mlp.c_fc.weight", [mlp, width]), ("mlp.c_fc.bias", [mlp]),
                            ("mlp.c_proj.weight", [width, mlp]), ("mlp.c_proj.bias", [width])):
            shapes["transformer.resblocks.%d.%s" % (i, name)] = shape
    return {prefix + name: shape for name, shape in shapes.items()}


# ---- models ----

def prefixed(name):
    return name if name.startswith(("text_model.", "text_projection.")) else "text_model." + name


def clip(width, heads, layers, act, vocab=networks.VOCAB, projects=False, mlp=None, **more):
    config = CLIPTextConfig(hidden_size=width, intermediate_size=mlp or 2 * width + 4, num_hidden_layers=layers,
                            num_attention_heads=heads, hidden_act=act, vocab_size=vocab, max_position_embeddings=77,
                            bos_token_id=vocab - 2, eos_token_id=vocab - 1, pad_token_id=1, **more)
    return (CLIPTextModelWithProjection if projects else CLIPTextModel)(config)


def unet(channels, heads, context, linear, levels, layers=1, groups=4, **more):
    down = ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in levels]
    up = ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(levels)]
    return UNet2DConditionModel(sample_size=8, block_out_channels=channels, layers_per_block=layers, down_block_types=down,
                                up_block_types=up, norm_num_groups=groups, attention_head_dim=heads,
                                cross_attention_dim=context, use_linear_projection=linear, **more)


def vae(channels, groups=4, **more):
    return AutoencoderKL(block_out_channels=channels, down_block_types=("DownEncoderBlock2D",) * len(channels),
                         up_block_types=("UpDecoderBlock2D",) * len(channels), layers_per_block=1, norm_num_groups=groups,
                         sample_size=64, **more)


def plain(config):
    """What a configuration file says, without the versions of those who write it."""
    drop = ("_name_or_path", "transformers_version", "_diffusers_version", "dtype", "torch_dtype", "_use_default_values")
    return {k: v for k, v in json.loads(json.dumps(dict(config))).items() if k not in drop}


def folder(pipeline_class, parts, scheduler, pads):
    """parts: the networks by name; pads: the pad token's tokenizer folder of each encoder."""
    index = {"_class_name": pipeline_class, "scheduler": ["diffusers", scheduler["_class_name"]]}
    files, weights = {"scheduler/scheduler_config.json": scheduler}, {}
    for name, module in parts.items():
        text = name.startswith("text")
        index[name] = ["transformers" if text else "diffusers", type(module).__name__]
        files[name + "/config.json"] = plain(module.config.to_dict() if text else module.config)
        if text:
            files[name + "/config.json"]["architectures"] = [type(module).__name__]
        shapes = {(prefixed(k) if text else k): list(t.shape) for k, t in module.state_dict().items()}
        weights["%s/%s.safetensors" % (name, WEIGHTS[name])] = shapes
    for name in pads:
        index[name] = ["transformers", "CLIPTokenizer"]
    files["model_index.json"] = index
    return {"files": files, "weights": weights, "links": pads}


def sd1():
    parts = {"text_encoder": clip(28, 4, 3, "quick_gelu"),
             "unet": unet((8, 16, 24, 16), 8, 28, False, (True, True, True, False)),
             "vae": vae((8, 12, 16, 8), scaling_factor=0.2307)}
    scheduler = {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "trained_betas": None, **TRAINED}
    return folder("StableDiffusionPipeline", parts, scheduler, {"tokenizer": "tokenizer"})


def sd2():
    parts = {"text_encoder": clip(36, 2, 2, "gelu"),
             "unet": unet((8, 16, 24), (2, 4, 6), 36, True, (True, True, False), layers=2),
             "vae": vae((8, 8, 12, 8))}
    scheduler = {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction", **TRAINED}
    return folder("StableDiffusionPipeline", parts, scheduler, {"tokenizer": "tokenizer_2"})


def xl_unet(channels, heads, context, pooled, ids, **more):
    return unet(channels, heads, context, True, (False, True), transformer_layers_per_block=[1, 2],
                addition_embed_type="text_time", addition_time_embed_dim=ids,
                projection_class_embeddings_input_dim=pooled + 6 * ids, **more)


PLAYGROUND = {"_class_name": "EDMDPMSolverMultistepScheduler", "algorithm_type": "dpmsolver++", "euler_at_final": False,
              "dynamic_thresholding_ratio": 0.995, "final_sigmas_type": "zero", "lower_order_final": True,
              "num_train_timesteps": 1000, "prediction_type": "epsilon", "rho": 7.0, "sample_max_value": 1.0,
              "sigma_data": 0.5, "sigma_max": 80.0, "sigma_min": 0.002, "solver_order": 2, "solver_type": "midpoint",
              "thresholding": False}
COSXL = {"_class_name": "EDMEulerScheduler", "num_train_timesteps": 1000, "prediction_type": "v_prediction", "rho": 7.0,
         "sigma_data": 1.0, "sigma_max": 120.0, "sigma_min": 0.002, "sigma_schedule": "exponential"}
LATENTS = {"latents_mean": [-1.625, 2.125, -0.75, 0.5], "latents_std": [8.5, 10.25, 7.75, 11.5]}


def xl_folder(scheduler, **latents):
    parts = {"text_encoder": clip(20, 2, 3, "quick_gelu"),
             "text_encoder_2": clip(28, 4, 3, "gelu", projects=True, projection_dim=24),
             "unet": xl_unet((8, 16), (2, 4), 48, 24, 8), "vae": vae((8, 12, 8, 8), **latents)}
    return folder("StableDiffusionXLPipeline", parts, scheduler, {"tokenizer": "tokenizer", "tokenizer_2": "tokenizer_2"})


def playground():
    return xl_folder(PLAYGROUND, scaling_factor=0.5, **LATENTS)


def cosxl():
    return xl_folder(COSXL, scaling_factor=0.13025)


def single(kind, networks, shapes, scheduler, marks):
    """A single file, and the configuration that it would have as a folder, for the reference."""
    config = folder(kind, networks, scheduler, {})
    for name in networks:
        if name.startswith("text"):
            config["files"]["model_index.json"][name.replace("text_encoder", "tokenizer")] = ["transformers", "CLIPTokenizer"]
    weights = single_shapes(networks["unet"], networks["vae"], shapes)
    return {"files": {}, "weights": {"model.safetensors": weights}, "links": {}, "marks": marks,
            "single": "model.safetensors"}, config["files"]


def sd_single(unet_part, vae_part, text, shapes, prediction):
    scheduler = {"_class_name": "EulerDiscreteScheduler", "prediction_type": prediction, **TRAINED}
    return single("StableDiffusionPipeline", {"text_encoder": text, "unet": unet_part, "vae": vae_part}, shapes, scheduler, {})


def xl_single(scheduler, marks, **latents):
    one = clip(64, 1, 2, "quick_gelu", vocab=49408, mlp=96)
    two = clip(128, 2, 3, "gelu", vocab=49408, mlp=96, projects=True, projection_dim=128)
    two.config.eos_token_id = one.config.eos_token_id = 2  # as in the configurations of SDXL base's time
    shapes = {**clip_shapes(one, "conditioner.embedders.0.transformer."),
              **open_clip_shapes(128, 96, 3, "conditioner.embedders.1.model.")}
    networks = {"text_encoder": one, "text_encoder_2": two,
                "unet": xl_unet((64, 128), (1, 2), 192, 128, 256, groups=32), "vae": vae((32, 64, 64, 64), 32, **latents)}
    return single("StableDiffusionXLPipeline", networks, shapes, scheduler, marks)


def playground_single():
    return xl_single(PLAYGROUND, {"edm_mean": LATENTS["latents_mean"], "edm_std": LATENTS["latents_std"]},
                     scaling_factor=0.5, **LATENTS)


def cosxl_single():
    return xl_single(dict(COSXL, sigma_max=100.0, sigma_min=0.004),
                     {"edm_vpred.sigma_max": [100.0], "edm_vpred.sigma_min": [0.004]}, scaling_factor=0.13025)


def sd1_single():
    text = clip(64, 1, 2, "quick_gelu", vocab=49408, mlp=96)
    parts = (unet((32, 64, 96), 8, 64, False, (True, True, False), groups=32),
             vae((32, 32, 64, 32), groups=32))
    return sd_single(*parts, text, clip_shapes(text, "cond_stage_model.transformer."), "epsilon")


def sd2_single():
    text = clip(128, 2, 3, "gelu", vocab=49408, mlp=160)
    parts = (unet((64, 128), (1, 2), 128, True, (True, True), groups=32), vae((32, 32, 32, 64), groups=32))
    return sd_single(*parts, text, open_clip_shapes(128, 160, 3, "cond_stage_model.model."), "v_prediction")


MODELS = {"sd1": sd1, "sd2": sd2, "sd1_single": sd1_single, "sd2_single": sd2_single, "playground": playground,
          "cosxl": cosxl, "playground_single": playground_single, "cosxl_single": cosxl_single}


# ---- runs ----

def write(model, target):
    for name, doc in model["files"].items():
        os.makedirs(os.path.dirname(os.path.join(target, name)), exist_ok=True)
        with open(os.path.join(target, name), "w", encoding="utf-8") as f:
            json.dump(doc, f)
    for name, shapes in model["weights"].items():
        os.makedirs(os.path.dirname(os.path.join(target, name)), exist_ok=True)
        tensors = {k: made(k, shape) for k, shape in shapes.items()}
        for mark, values in model.get("marks", {}).items():
            tensors[mark] = np.asarray(values if len(values) > 1 else values[0], dtype=np.float32)
        save_file(tensors, os.path.join(target, name), {"format": "pt"})
    for name, source in model["links"].items():
        os.symlink(os.path.abspath(os.path.join(ODD_TOKENIZERS, source)), os.path.join(target, name))


def load(model, config, work):
    write(model, work)
    if "single" not in model:
        kind = getattr(diffusers, model["files"]["model_index.json"]["_class_name"])
        more = {"add_watermarker": False} if "XL" in kind.__name__ else {"safety_checker": None}
        return kind.from_pretrained(work, torch_dtype=torch.float32, **more)
    aside = os.path.join(work, "config")
    write({"files": config, "weights": {}, "links": {}}, aside)
    one, two = fullsize.tokenizers()
    kind = config["model_index.json"]["_class_name"]
    more = {"safety_checker": None, "feature_extractor": None}
    if "XL" in kind:
        more = {"tokenizer": one, "tokenizer_2": two, "add_watermarker": False}
    elif any("cond_stage_model.model." in name for name in model["weights"][model["single"]]):
        more["tokenizer"] = two
    else:
        more["tokenizer"] = one
    return getattr(diffusers, kind).from_single_file(os.path.join(work, model["single"]), config=aside,
                                                     torch_dtype=torch.float32, **more)


def main():
    out, only = sys.argv[1], sys.argv[2:]
    torch.set_num_threads(1)
    cases = json.load(open(os.path.join(out, "cases.json"), encoding="utf-8"))
    for name, make in MODELS.items():
        if only and name not in only:
            continue
        answer = make()
        model, config = answer if isinstance(answer, tuple) else (answer, None)
        with open(os.path.join(out, name + ".json"), "w", encoding="utf-8") as f:
            f.write(json.dumps({k: v for k, v in model.items() if v}, separators=(",", ":"), sort_keys=True) + "\n")
        for case in cases:
            if case["model"] == name:
                with tempfile.TemporaryDirectory() as work:
                    pipeline.save(pipeline.record(load(model, config, work), case["request"]),
                                  os.path.join(out, "runs", case["name"]))
                print(case["name"], flush=True)


if __name__ == "__main__":
    main()
