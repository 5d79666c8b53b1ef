#!/usr/bin/env python3
"""A small SDXL of odd shape with random weights, and what its networks compute.

    python3 tools/golden/networks.py testing/golden/odd

Made with torch 2.15.0, diffusers 0.42.1, transformers 5.23.0, numpy 2.4.6, safetensors 0.8.0, Python 3.11 or
later. model/ is a whole StableDiffusionXLPipeline folder (float32, about 2.5 MB): head counts, widths, depths,
numbers of layers, vocabulary and scaling factor are unlike SDXL's, so that nothing passes by a constant that
happens to be right. Norms and biases are random too, and queries and keys are large enough for attention to be
far from uniform. Everything is seeded; the .npy files are float32 (ids int32), NCHW:

clip{1,2}_hidden{1,2,3}  hidden_states[-skip] of clip_ids [2, 77]
clip2_pooled             text_embeds of clip_ids with eos_token_id 2 (arg-max); clip2_pooled_eos with 612
unet_{13x9,6x8}_{latents,pred}  width x height, three rows; unet_timesteps [3]; unet_text [3, 19, 68], of the third
                         row only the first 7 tokens are used; unet_pooled [3, 44]; unet_time_ids [3, 6]
vae_latents, vae_image   decode of latents / scaling_factor; vae_tiled_*: with tiles of 8 latents
vae_encode_image, vae_moments  mean and log variance
"""
import collections
import json
import os
import sys

import numpy as np
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

VOCAB = 613
BOS, EOS = "<|startoftext|>", "<|endoftext|>"
CORPUS = ("the quick brown fox jumps over the lazy dog while a small red circle stands left of the blue square and "
          "three green triangles hang above the yellow star on a white background photo of an old castle by the sea")


def byte_symbols():
    """The printable character of each byte: itself where it is printable, else one from 256 up."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in plain]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(len(rest))]


def merges(count):
    """Byte pair encoding of CORPUS (Sennrich et al. 2016); ties go to the pair that sorts first."""
    words = collections.Counter(tuple(w[:-1]) + (w[-1] + "</w>",) for w in CORPUS.split())
    found = []
    while len(found) < count:
        pairs = collections.Counter()
        for word, n in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += n
        best = min(pairs, key=lambda p: (-pairs[p], p))
        found.append(best)
        joined = collections.Counter()
        for word, n in words.items():
            out = []
            for piece in word:
                if out and (out[-1], piece) == best:
                    out[-1] += piece
                else:
                    out.append(piece)
            joined[tuple(out)] += n
        words = joined
    return found


def write_tokenizer(folder, pad):
    os.makedirs(folder, exist_ok=True)
    symbols, pairs = byte_symbols(), merges(VOCAB - 512 - 2)
    entries = symbols + [s + "</w>" for s in symbols] + [a + b for a, b in pairs] + [BOS, EOS]
    assert len(set(entries)) == VOCAB
    special = {"bos_token": BOS, "eos_token": EOS, "pad_token": pad, "unk_token": EOS}
    config = {"add_prefix_space": False, "do_lower_case": True, "errors": "replace", "model_max_length": 77,
              "tokenizer_class": "CLIPTokenizer", **special}
    files = {"vocab.json": {e: i for i, e in enumerate(entries)}, "special_tokens_map.json": special,
             "tokenizer_config.json": config}
    for name, doc in files.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
            json.dump(doc, f, ensure_ascii=False, indent=None if name == "vocab.json" else 1)
            f.write("\n")
    with open(os.path.join(folder, "merges.txt"), "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in pairs))


def randomise(module, seed):
    """Weights of 1 / sqrt(inputs); norms around 1; biases not 0; queries and keys large."""
    g = torch.Generator().manual_seed(seed)
    for name, p in sorted(module.named_parameters()):
        if p.ndim == 1:
            centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            value = centre + 0.2 * torch.randn(p.shape, generator=g)
        elif "embedding" in name.split(".")[-2]:
            value = 0.5 * torch.randn(p.shape, generator=g)
        else:
            value = torch.randn(p.shape, generator=g) / p[0].numel() ** 0.5
            if any(part in name for part in ("to_q", "to_k", "q_proj", "k_proj")):
                value *= 1.6
        p.data.copy_(value)
    return module.eval()


def build(folder):
    text = {"vocab_size": VOCAB, "max_position_embeddings": 77, "bos_token_id": VOCAB - 2, "pad_token_id": 1}
    one = CLIPTextModel(CLIPTextConfig(hidden_size=28, intermediate_size=60, num_hidden_layers=3,
                                       num_attention_heads=4, hidden_act="quick_gelu", eos_token_id=VOCAB - 1,
                                       layer_norm_eps=2e-5, **text))
    two = CLIPTextModelWithProjection(CLIPTextConfig(hidden_size=40, intermediate_size=100, num_hidden_layers=4,
                                                     num_attention_heads=2, hidden_act="gelu", eos_token_id=2,
                                                     projection_dim=44, layer_norm_eps=1e-5, **text))
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(12, 20, 28), layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), norm_num_groups=4, norm_eps=3e-5,
        transformer_layers_per_block=[0, [1, 1], [2, 1]], reverse_transformer_layers_per_block=[[1, 2, 1], [1, 1, 1], 0],
        attention_head_dim=(2, 4, 2), cross_attention_dim=68, use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=10, projection_class_embeddings_input_dim=104)
    vae = AutoencoderKL(in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(8, 12, 20, 16),
                        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
                        layers_per_block=1, norm_num_groups=4, sample_size=128, scaling_factor=0.2307)
    scheduler = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                                       timestep_spacing="leading", steps_offset=1)
    for seed, module in enumerate((one, two, unet, vae)):
        randomise(module, 100 + seed)
    for name, pad in (("tokenizer", EOS), ("tokenizer_2", "!")):
        write_tokenizer(os.path.join(folder, name), pad)
    pipe = StableDiffusionXLPipeline(
        vae=vae, text_encoder=one, text_encoder_2=two, unet=unet, scheduler=scheduler,
        tokenizer=CLIPTokenizer.from_pretrained(os.path.join(folder, "tokenizer")),
        tokenizer_2=CLIPTokenizer.from_pretrained(os.path.join(folder, "tokenizer_2")),
        force_zeros_for_empty_prompt=True, add_watermarker=False)
    pipe.save_pretrained(folder)
    say_all_keys(os.path.join(folder, "scheduler", "scheduler_config.json"))
    for name, pad in (("tokenizer", EOS), ("tokenizer_2", "!")):  # save_pretrained's layout changes with versions
        for file in os.listdir(os.path.join(folder, name)):
            os.remove(os.path.join(folder, name, file))
        write_tokenizer(os.path.join(folder, name), pad)
    return one, two, unet, vae


def say_all_keys(path):
    """Keys of other classes than the file's, so that a sampler of any class finds what it reads."""
    with open(path, encoding="utf-8") as f:
        config = json.load(f)
    config.update(clip_sample=False, clip_sample_range=1.0, sample_max_value=1.0, set_alpha_to_one=False,
                  skip_prk_steps=True, thresholding=False)
    with open(path, "w", encoding="utf-8") as f:
        f.write(json.dumps(config, indent=2, sort_keys=True) + "\n")


def normal(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def clip_vectors(save, one, two):
    ids = torch.randint(0, VOCAB - 2, (2, 77), generator=torch.Generator().manual_seed(1))
    ids[:, 0] = VOCAB - 2
    ids[0, 9:] = VOCAB - 1   # padded with the end token, as the first tokenizer does
    ids[1, 31] = VOCAB - 1
    ids[1, 32:] = 0          # padded with "!", as the second does
    save("clip_ids", ids.to(torch.int32))
    for name, model in (("clip1", one), ("clip2", two)):
        states = model(ids, output_hidden_states=True).hidden_states
        for skip in (1, 2, 3):
            save(f"{name}_hidden{skip}", states[-skip])
    for name, eos in (("clip2_pooled", 2), ("clip2_pooled_eos", VOCAB - 1), ("clip2_pooled_first", 0)):
        two.config.eos_token_id = eos
        for module in two.modules():
            if hasattr(module, "eos_token_id"):
                module.eos_token_id = eos
        save(name, two(ids).text_embeds)


def unet_vectors(save, unet):
    text, pooled = normal((3, 19, 68), 2), normal((3, 44), 3)
    time_ids = torch.tensor([[72, 104, 0, 0, 72, 104], [1024, 768, 13, 200, 64, 48], [5, 7, 1, 0, 2048, 9]]).float()
    timesteps = torch.tensor([999, 481.25, 1])
    for name, value in (("text", text), ("pooled", pooled), ("time_ids", time_ids), ("timesteps", timesteps)):
        save("unet_" + name, value)
    for seed, (w, h) in enumerate(((13, 9), (6, 8))):
        latents = normal((3, 4, h, w), 10 + seed)
        rows = []
        for i, tokens in enumerate((19, 19, 7)):
            added = {"text_embeds": pooled[i:i + 1], "time_ids": time_ids[i:i + 1]}
            rows.append(unet(latents[i:i + 1], timesteps[i], text[i:i + 1, :tokens], added_cond_kwargs=added).sample)
        save(f"unet_{w}x{h}_latents", latents)
        save(f"unet_{w}x{h}_pred", torch.cat(rows))


def vae_vectors(save, vae):
    factor = vae.config.scaling_factor
    latents, wide, image = normal((1, 4, 9, 13), 20), normal((1, 4, 13, 17), 21), normal((1, 3, 48, 72), 22).tanh()
    save("vae_latents", latents)
    save("vae_image", vae.decode(latents / factor).sample)
    save("vae_encode_image", image)
    save("vae_moments", vae.encode(image).latent_dist.parameters)
    vae.enable_tiling()
    vae.tile_latent_min_size, vae.tile_sample_min_size = 8, 64
    save("vae_tiled_latents", wide)
    save("vae_tiled_image", vae.decode(wide / factor).sample)


def main(out):
    torch.set_num_threads(1)

    def save(name, value):
        np.save(os.path.join(out, name + ".npy"), value.detach().contiguous().numpy())

    with torch.no_grad():
        one, two, unet, vae = build(os.path.join(out, "model"))
        clip_vectors(save, one, two)
        unet_vectors(save, unet)
        vae_vectors(save, vae)


if __name__ == "__main__":
    main(sys.argv[1])
