"""Stage 2: the latents of the training pictures.  Stage 3: the denoiser and both text encoders, together.

SDXL's parametrisation throughout: noise prediction, scaled-linear betas, prompt embeddings from the states
before the last layer of both encoders, the second encoder's projected end token, and the six numbers of
original size, crop and target size.  Those numbers vary: a tenth of the pictures are cut out of larger ones
and a twelfth enlarged from smaller ones (and blurred by it), so that they mean to the model what they mean to SDXL's.
"""
import os
import time

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

import bpe
import captions
import common
import draw
import train_vae
from optim import Muon

# height, width: pictures, pictures a step, share of the steps
SIZES = {
    (128, 128): (12000, 32, 0.64),
    (192, 192): (3200, 14, 0.18),
    (128, 192): (1200, 22, 0.06),
    (192, 128): (1200, 22, 0.06),
    (96, 96): (800, 56, 0.03),
    (256, 256): (400, 8, 0.03),
}

# Steps of the first cycle of rates, and of the lesson in order with which the second begins.
FIRST, LESSON = 3000, 600


def picture(scene, height, width, rng):
    """uint8 [height, width, 3] and its six numbers."""
    way = rng.random()
    if way < 0.10:
        grow = rng.uniform(1.05, 1.3)
        tall, wide = round(height * grow), round(width * grow)
        top, left = rng.randint(0, tall - height), rng.randint(0, wide - width)
        whole = draw.draw(scene, wide, tall, rng)
        return whole[top:top + height, left:left + width], (tall, wide, top, left, height, width)
    if way < 0.18:
        shrink = rng.uniform(0.25, 0.5)
        tall, wide = round(height * shrink), round(width * shrink)
        small = Image.fromarray(draw.draw(scene, wide, tall, rng))
        return np.asarray(small.resize((width, height), Image.BICUBIC)), (tall, wide, 0, 0, height, width)
    grow = rng.uniform(1, 2) if way < 0.5 else 1
    return draw.draw(scene, width, height, rng), (round(height * grow), round(width * grow), 0, 0, height, width)


def make_latents(work):
    """latents.pt: for each size the mean and deviation of the latents, the captions and the six numbers."""
    path = os.path.join(work, "latents.pt")
    if os.path.exists(path):
        return
    common.together(encode, work)
    out = torch.load(path + ".all")
    flat = out[(128, 128)]["mean"].float()
    scale = round(1 / flat.std().item(), 5)
    print("scaling factor", scale, "channel means", (flat.mean((0, 2, 3)) * scale).tolist(), flush=True)
    common.save(path, {"data": out, "scale": scale})
    os.remove(path + ".all")


def encode(rank, processes, work):
    """One of the processes that draw and encode: each its share of the fifties of a size; the first joins them."""
    path = os.path.join(work, "latents.pt")
    vae, scenes, began, mine = train_vae.load(work), captions.Scenes(0), time.time(), []
    for number, ((height, width), (count, _, _)) in enumerate(SIZES.items()):
        for at in range(50 * rank, count, 50 * processes):
            scenes.rng.seed((100 + number) * 100000 + at)
            some = [scenes.next() for _ in range(min(50, count - at))]
            drawn = [picture(scene, height, width, scenes.rng) for scene, _ in some]
            x = common.as_input(torch.from_numpy(np.stack([d[0] for d in drawn])).permute(0, 3, 1, 2))
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                posterior = vae.encode(x).latent_dist
            mine.append(((height, width), at, posterior.mean.half(), posterior.std.half(),
                         [caption for _, caption in some], [d[1] for d in drawn]))
        print(f"latents {height}x{width} {time.time() - began:.0f}s", flush=True)
    common.save(f"{path}.{rank}", mine)
    torch.distributed.barrier()
    if rank == 0:
        parts = []
        for other in range(processes):
            parts += torch.load(f"{path}.{other}")
            os.remove(f"{path}.{other}")
        out = {}
        for size in SIZES:
            own = sorted((p for p in parts if p[0] == size), key=lambda p: p[1])
            out[size] = dict(mean=torch.cat([p[2] for p in own]), std=torch.cat([p[3] for p in own]),
                             texts=[t for p in own for t in p[4]],
                             numbers=torch.tensor([n for p in own for n in p[5]], dtype=torch.float32))
        common.save(path + ".all", out)


def make_tokenizers(work, data):
    texts = [t for part in data.values() for t in part["texts"]]
    merges = bpe.learn(texts)
    for name, pad in (("tokenizer", bpe.EOS), ("tokenizer_2", "!")):
        bpe.write(os.path.join(work, name), merges, pad)


def tokens(tokenizer, texts):
    return tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids


class Model(torch.nn.Module):
    """The three networks of stage 3 and the path from tokens to predicted noise."""

    def __init__(self, vocabulary):
        super().__init__()
        self.unet = UNet2DConditionModel(**common.UNET).to(memory_format=torch.channels_last)
        first = CLIPTextConfig(**common.encoder_config(64, 3, "quick_gelu", vocabulary))
        second = CLIPTextConfig(**common.encoder_config(96, 3, "gelu", vocabulary))
        self.text = CLIPTextModel(first)
        self.text_2 = CLIPTextModelWithProjection(second)

    def condition(self, ids, ids_2):
        a = self.text(ids, output_hidden_states=True)
        b = self.text_2(ids_2, output_hidden_states=True)
        return torch.cat([a.hidden_states[-2], b.hidden_states[-2]], -1), b.text_embeds

    def forward(self, x, t, ids, ids_2, numbers, drop):
        states, pooled = self.condition(ids, ids_2)
        keep = (~drop).to(states.dtype)
        added = {"text_embeds": pooled * keep[:, None], "time_ids": numbers}
        return self.unet(x, t, states * keep[:, None, None], added_cond_kwargs=added).sample

    def optimiser(self):
        def inner(name, p):
            return p.ndim >= 2 and "embedding.weight" not in name and name not in (
                "unet.conv_in.weight", "unet.conv_out.weight")

        named = list(self.named_parameters())
        return Muon([p for n, p in named if inner(n, p)], [p for n, p in named if not inner(n, p)], 0.012, 2e-3)


def alphas_cumprod():
    betas = torch.linspace(0.00085 ** 0.5, 0.012 ** 0.5, 1000) ** 2
    return torch.cumprod(1 - betas, 0)


def prepare(data, tokenizers, scale):
    for part in data.values():
        part["ids"], part["ids_2"] = (tokens(t, part["texts"]) for t in tokenizers)
        part["mean"], part["std"] = part["mean"].float() * scale, part["std"].float() * scale


def in_lesson(step):
    """Whether it is of the lesson: two shapes, hardly anything else, and so much noise that their places are open."""
    return FIRST <= step < FIRST + LESSON


def chances(texts, step):
    """How often each picture is taken in the lesson, but for a factor.

    Which of two shapes goes where takes both the order of the words and the word between them: alone neither says
    anything, so a model hardly finds a way to begin. Hence the order is at first that of "left of" and "above" only.
    Before the lesson, after FIRST steps, places are chance (26 of 60 held-out pairs right); 500 steps of it suffice.
    """
    turned = min(1.0, 0.05 + max(0, step - FIRST - LESSON / 3) / (LESSON / 3))
    words = {"left of": 1, "above": 1, "over": 1, "right of": turned, "below": turned, "under": turned}
    return torch.tensor([max([0.05] + [words[w] for w in words if f" {w} " in text]) for text in texts])


def batch(data, empty, step, gen):
    """Latents, tokens, numbers and which conditions become zeros (12 %); 3 % are the empty prompt, encoded."""
    shares = torch.tensor([s[2] for s in SIZES.values()])
    size = list(SIZES)[int(torch.multinomial(shares, 1, generator=gen))]
    part, n = data[size], SIZES[size][1]
    if in_lesson(step):
        pick = torch.multinomial(chances(part["texts"], step), n, generator=gen)
    else:
        pick = torch.randint(0, len(part["ids"]), (n,), generator=gen)
    z = part["mean"][pick] + part["std"][pick] * torch.randn(part["mean"][pick].shape, generator=gen)
    chance = torch.rand(n, generator=gen)
    none = ((chance >= 0.12) & (chance < 0.15))[:, None]
    ids = torch.where(none, empty[0], part["ids"][pick])
    ids_2 = torch.where(none, empty[1], part["ids_2"][pick])
    return z, ids, ids_2, part["numbers"][pick], chance < 0.12


def timesteps(n, step, gen):
    """One of each of n equal parts of the range."""
    low = 700 if in_lesson(step) else 0
    return (low + (torch.arange(n) + torch.rand(n, generator=gen)) * ((1000 - low) / n)).long().clamp(max=999)


def run(work, steps):
    """Trains to the given number of steps from the latest checkpoint."""
    make_tokenizers(work, torch.load(os.path.join(work, "latents.pt"))["data"])
    common.together(train, work, steps)


def losses(model, z, t, noise, conditions):
    """Squared error of the predicted noise of each picture, and its weight.

    The weight, 1 / sqrt(SNR), lies half way between an error of the noise and one of the picture. By the noise alone
    the steps that decide what is drawn where hardly count, and the text is learned much later.
    """
    a = alphas_cumprod()[t].view(-1, 1, 1, 1)
    x = (a.sqrt() * z + (1 - a).sqrt() * noise).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        guess = model(x, t, *conditions)
    weight = ((1 - a) / a).sqrt().flatten()
    return (guess.float() - noise).square().mean((1, 2, 3)), weight


def rate(step, steps):
    """Share of the full rates: two cycles (Loshchilov and Hutter, 2017), the second half as high."""
    first = min(FIRST, steps)
    if step < first:
        return common.rate_scale(step, first)
    return 0.5 * common.rate_scale(step - first, steps - first)


def train(rank, processes, work, steps):
    """One of the processes; the first of them reports and saves."""
    path = os.path.join(work, "unet.pt")
    loaded = torch.load(os.path.join(work, "latents.pt"))
    data = loaded["data"]
    tokenizers = [CLIPTokenizer.from_pretrained(os.path.join(work, n)) for n in ("tokenizer", "tokenizer_2")]
    prepare(data, tokenizers, loaded["scale"])
    empty = [tokens(t, [""]) for t in tokenizers]
    torch.manual_seed(common.SEED)
    model = Model(len(tokenizers[0]))
    opt = model.optimiser()
    ema = common.Average(model.parameters(), 0.996)
    first = 0
    if os.path.exists(path):
        state = torch.load(path)
        model.load_state_dict(state["live"])
        opt.load_state_dict(state["opt"])
        ema.mean, ema.count, first = state["ema"], state["step"], state["step"]
    began, shown = time.time(), 0.0
    for step in range(first, steps):
        gen = common.generator("unet", step)
        z, *conditions = batch(data, empty, step, gen)
        noise = torch.randn(z.shape, generator=gen)
        t = timesteps(len(z), step, gen)
        mine = slice(rank, None, processes)
        error, weight = losses(model, z[mine], t[mine], noise[mine], [c[mine] for c in conditions])
        for p in model.parameters():
            p.grad = None
        (error * weight).mean().backward()
        opt.clip()
        opt.step(rate(step, steps))
        ema.update()
        shown = 0.98 * shown + 0.02 * error.mean().item()
        if rank == 0 and step % 20 == 19:
            print(f"unet {step + 1} {time.time() - began:.0f}s "
                  f"error {shown / (1 - 0.98 ** (step + 1 - first)):.4f}", flush=True)
        if rank == 0 and ((step + 1) % 100 == 0 or step + 1 == steps):
            common.save(path, {"live": model.state_dict(), "opt": opt.state_dict(), "ema": ema.mean, "step": step + 1})


def load(work):
    """The averaged model of the latest checkpoint, its tokenizers' folders being in work."""
    state = torch.load(os.path.join(work, "unet.pt"))
    model = Model(state["live"]["text.embeddings.token_embedding.weight"].shape[0]
                  if "text.embeddings.token_embedding.weight" in state["live"]
                  else state["live"]["text.text_model.embeddings.token_embedding.weight"].shape[0])
    average = common.Average(model.parameters())
    average.mean = state["ema"]
    average.install()
    return model.eval(), state["step"]
