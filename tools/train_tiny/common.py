"""What the stages of the training share: sizes of the model, random numbers, averages, checkpoints."""
import datetime
import math
import os

import numpy as np
import torch
import torch.nn.functional as F

SEED = 20260
VAE = dict(
    in_channels=3, out_channels=3, latent_channels=4, sample_size=128, norm_num_groups=8, layers_per_block=1,
    block_out_channels=[16, 32, 64, 96],
    down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4)


def generator(stage, step):
    """The random numbers of one step: of nothing but its stage and number, so that a resumed run is the same run."""
    return torch.Generator().manual_seed((SEED * 7 + sum(map(ord, stage))) * 1000003 + step)


def together(worker, work, *arguments, processes=2):
    """Runs worker(rank, processes, work, *arguments) in that many processes of one thread, which share each batch.

    On cores that others use too, that is faster than threads that wait for each other at every operation.  They are
    forks, so that they bear this program's name, and may be stopped and continued for hours.
    """
    meeting = os.path.abspath(os.path.join(work, "meeting"))
    if os.path.exists(meeting):
        os.remove(meeting)
    torch.multiprocessing.start_processes(
        enter, args=(worker, processes, meeting, work, arguments), nprocs=processes, start_method="fork")
    if os.path.exists(meeting):
        os.remove(meeting)


def enter(rank, worker, processes, meeting, work, arguments):
    torch.set_num_threads(1)
    attention_in_float32()
    torch.distributed.init_process_group("gloo", init_method="file://" + meeting, rank=rank, world_size=processes,
                                         timeout=datetime.timedelta(hours=12))
    worker(rank, processes, work, *arguments)
    torch.distributed.destroy_process_group()


def attention_in_float32():
    """Makes attention run in float32 under autocast: torch's bfloat16 one is several times slower on CPUs."""
    inner = F.scaled_dot_product_attention
    if inner.__name__ == "attention":
        return

    def attention(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, **rest):
        with torch.autocast("cpu", enabled=False):
            if attn_mask is not None and attn_mask.dtype != torch.bool:
                attn_mask = attn_mask.float()
            out = inner(q.float(), k.float(), v.float(), attn_mask, dropout_p, is_causal, scale=scale, **rest)
        return out.to(q.dtype)

    F.scaled_dot_product_attention = attention


class Average:
    """Exponential moving average of parameters, with the usual warm-up of its decay."""

    def __init__(self, parameters, decay=0.999):
        self.live, self.decay, self.count = list(parameters), decay, 0
        self.mean = [p.detach().clone() for p in self.live]

    def update(self):
        self.count += 1
        d = min(self.decay, self.count / (self.count + 9))
        with torch.no_grad():
            torch._foreach_lerp_(self.mean, [p.detach() for p in self.live], 1 - d)

    def install(self):
        """The averages become the parameters."""
        with torch.no_grad():
            for p, m in zip(self.live, self.mean):
                p.copy_(m)


def rate_scale(step, steps, warm=60, flat=0.35):
    """Warm-up, flat, then half a cosine down to 0.01."""
    if step < warm:
        return (step + 1) / warm
    done = max(0.0, (step / steps - flat) / (1 - flat))
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def save(path, state):
    """Writes a checkpoint whole or not at all."""
    torch.save(state, path + ".part")
    os.replace(path + ".part", path)


def as_input(pictures):
    """uint8 [n, 3, h, w] to float in -1..1, channels last."""
    return (pictures.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def sheet(rows):
    """One uint8 picture of rows of equally large float pictures [3, h, w] in -1..1."""
    lines = []
    for row in rows:
        tiles = [((t.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy() for t in row]
        lines.append(np.concatenate(tiles, 1))
    return np.concatenate(lines, 0)


def encoder_config(width, layers, activation, vocabulary):
    """Arguments of a CLIPTextConfig; the special tokens are the last two entries of the vocabulary."""
    return dict(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers,
        num_attention_heads=4, max_position_embeddings=77, hidden_act=activation, projection_dim=96,
        bos_token_id=vocabulary - 2, eos_token_id=vocabulary - 1)


UNET = dict(
    sample_size=16, in_channels=4, out_channels=4, norm_num_groups=8, layers_per_block=2,
    block_out_channels=[48, 80, 96], transformer_layers_per_block=[1, 2, 1], attention_head_dim=[2, 5, 6],
    down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    cross_attention_dim=64 + 96, use_linear_projection=True, addition_embed_type="text_time",
    addition_time_embed_dim=16, projection_class_embeddings_input_dim=6 * 16 + 96)
