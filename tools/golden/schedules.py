#!/usr/bin/env python3
"""Levels of the schedules that no class of diffusers has.

    python3 tools/golden/schedules.py testing/golden/schedulers

sigmas.npy  float32, all levels one after another; sigmas.txt has a line per case:
            schedule sampler levels spacing steps offset source
            (`schedule` with its options as in a request; `levels`: whose rules hold where schedules differ by program:
            class, model, xl for class with SDXL's optimised levels; `steps` sigmas at `offset`, without the last 0; those of
            diffusers are followed by as many timesteps)

Sources: k-diffusion 0.1.1.post1 (get_sigmas_*, DiscreteSchedule) and scipy where they have the schedule. The others
are in no package: ComfyUI's (simple, ddim_uniform, sgm_uniform, linear_quadratic, kl_optimal, laplace, beta over timesteps), Forge's
(turbo, the levels of align_your_steps and gits), stable-diffusion.cpp's (smoothstep), RES4LYF's (bong_tangent) and that of
karras_exponential are written out below from their published rules, in double.
"""
import math
import os
import sys

import numpy as np
import scipy.stats
import torch

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import schedulers  # noqa: E402

AYS = {"sd15": "14.615 6.475 3.861 2.697 1.886 1.396 0.963 0.652 0.399 0.152 0.029",
       "sdxl": "14.615 6.315 3.771 2.181 1.342 0.862 0.555 0.380 0.234 0.113 0.029"}
GITS = {"sd15": "14.615 4.617 2.507 1.236 0.702 0.402 0.240 0.156 0.104 0.094 0.029",
        "sdxl": "14.615 4.734 2.567 1.529 0.987 0.652 0.418 0.268 0.179 0.127 0.029"}
AYS_32 = {"sd15": "14.615 11.23951352 8.64363081 6.64729424 5.57250862 4.71648546 3.99196065 3.5195609 3.13490466 2.79228788 "
                  "2.48773628 2.21663865 1.97508351 1.7793172 1.61475335 1.46540953 1.314849 1.16642497 1.03475547 "
                  "0.91573744 0.80748169 0.71202361 0.621739 0.53065202 0.4529096 0.37491455 0.27461819 0.2011529 "
                  "0.14105873 0.06682881 0.03166121 0.015",
          "sdxl": "14.615 11.1491618 8.50522127 6.48827151 5.43707402 4.60398619 3.89854704 3.27407457 2.74396527 2.29968659 "
                  "1.95448514 1.67108715 1.42878152 1.23181009 1.06789649 0.92579443 0.80290886 0.69660121 0.60436903 "
                  "0.52852552 0.46773344 0.41393379 0.36258186 0.31008517 0.26518925 0.22326461 0.17653877 0.13959192 "
                  "0.10587381 0.05519369 0.02877334 0.015"}


class Model:
    def __init__(self):
        bars = schedulers.make("euler", "leading", "normal").alphas_cumprod
        self.sigmas = ((1 - bars) / bars) ** 0.5
        self.low, self.high = float(self.sigmas[0]), float(self.sigmas[-1])
        k = schedulers.k_sampling()
        self.k, self.discrete = k, __import__("k_diffusion.external", fromlist=["x"]).DiscreteSchedule(self.sigmas, False)

    def at(self, timesteps):
        return [float(self.sigmas[int(t)]) for t in timesteps]

    def between(self, timesteps):
        return self.discrete.t_to_sigma(torch.tensor(timesteps, dtype=torch.float64)).tolist()


def loglinear(text, n):
    levels = np.array([float(v) for v in text.split()])
    points = np.interp(np.linspace(0, 1, n), np.linspace(0, 1, len(levels)), np.log(levels[::-1]))
    return np.exp(points)[::-1] if n > 1 else levels[:1]


def bong_tangent(n):
    def curve(count, slope, pivot, start, end):
        fall = [(2 / math.pi * math.atan(-slope * (x - pivot)) + 1) / 2 for x in range(count)]
        return [(v - fall[-1]) / (fall[0] - fall[-1]) * (start - end) + end for v in fall]

    n += 2
    joint = int((n * 0.6 + n * 0.6) / 2)
    slope, pivot = 0.2 / (n / 40), int(n * 0.6)
    return curve(joint, slope, pivot, 1, 0.5)[:-1] + curve(n - joint, slope, pivot - joint, 0.5, 0)[:-1]


def linear_quadratic(n, threshold=0.025, even=None):
    if n == 1:
        return [1.0]
    even = n // 2 if even is None else even
    rest, difference = n - even, even - threshold * n
    square, slope = difference / (even * rest ** 2), threshold / even - 2 * difference / rest ** 2
    taken = [i * threshold / even for i in range(even)]
    return [1 - v for v in taken + [square * i * i + slope * i + square * even ** 2 for i in range(even, n)]]


def karras_exponential(m, n):
    k = m.k.get_sigmas_karras(n, m.low, m.high * 1.1).double()
    e = m.k.get_sigmas_exponential(n, m.low, m.high * 1.1).double()
    blend = 0.3 * (1 - torch.linspace(0, 1, n + 1, dtype=torch.float64))
    s = (k * (1 - blend) + e * blend)[:n]
    return torch.where(s < 1.5 * m.low, s * 0.9, s).tolist()


def cases(m):
    k, quantile = m.k, scipy.stats.beta.ppf
    for n in (1, 2, 7, 20, 50):
        ramp = np.linspace(0, 1, n)
        yield "polyexponential", "class", n, k.get_sigmas_polyexponential(n, m.low, m.high)[:-1], "k-diffusion"
        yield "polyexponential,rho=0.7,sigma_min=0.05,sigma_max=12", "class", n, k.get_sigmas_polyexponential(n, 0.05, 12.0, 0.7)[:-1], "k-diffusion"
        yield "vp", "class", n, k.get_sigmas_vp(n)[:-1], "k-diffusion"
        yield "vp,beta_d=12,beta_min=0.2,eps_s=0.01", "class", n, k.get_sigmas_vp(n, 12.0, 0.2, 0.01)[:-1], "k-diffusion"
        yield "karras", "model", n, k.get_sigmas_karras(n, m.low, m.high)[:-1], "k-diffusion"
        yield "karras,rho=3,sigma_min=0.1,sigma_max=10", "model", n, k.get_sigmas_karras(n, 0.1, 10.0, 3.0)[:-1], "k-diffusion"
        yield "exponential", "model", n, k.get_sigmas_exponential(n, m.low, m.high)[:-1], "k-diffusion"
        yield "normal", "model", n, m.discrete.get_sigmas(n)[:-1], "k-diffusion"
        yield "sgm_uniform", "class", n, m.between(np.linspace(999, 0, n + 1)[:-1]), "k-diffusion"
        yield "simple", "class", n, m.at(999 - int(i * (1000 / n)) for i in range(n)), "ComfyUI"
        yield "ddim_uniform", "class", n, m.at([1 + i * (1000 // n) for i in range(1000)][:n][::-1]) if n > 1 else m.at([1]), "ComfyUI"
        yield "beta,alpha=0.4,beta=0.9", "dpmpp_2m", n, [m.low + quantile(1 - v, 0.4, 0.9) * (m.high - m.low) for v in ramp], "scipy"
        yield "beta", "model", n, m.at(np.rint(quantile(1 - np.linspace(0, 1, n, endpoint=False), 0.6, 0.6) * 999)), "scipy"
        yield "beta,alpha=0.5,beta=0.7", "model", n, m.at(np.rint(quantile(1 - np.linspace(0, 1, n, endpoint=False), 0.5, 0.7) * 999)), "scipy"
        yield "kl_optimal", "class", n, np.tan(ramp * math.atan(m.low) + (1 - ramp) * math.atan(m.high)), "ComfyUI"
        away = 0.5 - ramp
        for mu, beta in ((0, 0.5), (0.3, 0.7)):
            spread = np.exp(mu - beta * np.sign(away) * np.log(1 - 2 * np.abs(away) + 1e-5))
            yield ("laplace" if beta == 0.5 else f"laplace,mu={mu},beta={beta}"), "class", n, np.clip(spread, m.low, m.high), "ComfyUI"
        for name, table in (("align_your_steps", AYS), ("align_your_steps_11", AYS), ("align_your_steps_32", AYS_32),
                            ("align_your_steps_gits", GITS)):
            yield name + ",model=1", "class", n, loglinear(table["sd15"], n), "published-levels"
            yield name, "xl", n, loglinear(table["sdxl"], n), "published-levels"
        yield "linear_quadratic", "class", n, np.array(linear_quadratic(n)) * m.high, "ComfyUI"
        if n > 3:
            yield "linear_quadratic,threshold_noise=0.05,linear_steps=3", "class", n, np.array(linear_quadratic(n, 0.05, 3)) * m.high, "ComfyUI"
        yield "bong_tangent", "class", n, (np.array(bong_tangent(n)) if n > 1 else np.array([0.5])) * m.high, "RES4LYF"
        yield "turbo", "class", n, m.at(np.rint((n - np.arange(n)) * (1000 / n) - 1)), "Forge"
        if n <= 10:
            yield "turbo,points=10", "class", n, m.at(np.flip(np.arange(1, 11) * 100 - 1)[:n]), "ComfyUI"
        u = 1 - np.arange(n, dtype=np.float32) / np.float32(n)
        yield "smoothstep", "class", n, m.at(np.floor(u * u * (3 - 2 * u) * 999 + 0.5)), "stable-diffusion.cpp"
        yield "karras_exponential", "class", n, karras_exponential(m, n), "AUTOMATIC1111-fork"


def diffusers_cases():
    """beta of the classes that have it."""
    for sampler in ("euler", "heun", "lms", "dpmpp_2m", "unipc"):
        for spacing in schedulers.SPACINGS:
            for n in (1, 2, 7, 20):
                config = dict(schedulers.SDXL_BASE, timestep_spacing=spacing, use_beta_sigmas=True)
                scheduler = schedulers.from_file(sampler, config)
                scheduler.set_timesteps(n)
                order = 2 if sampler == "heun" else 1
                firsts = slice(0, None, order) if order == 1 else [0, *range(1, 2 * n - 1, 2)]
                yield sampler, spacing, n, scheduler.sigmas.numpy()[:-1][firsts], scheduler.timesteps.numpy()[firsts]


def main(folder):
    lines, arrays, offset = [], [], 0
    model = Model()
    torch.set_default_dtype(torch.float64)  # in float32 the last level of vp would be off by 2e-4
    levels_of = list(cases(model))
    torch.set_default_dtype(torch.float32)
    for name, levels, n, sigmas, source in levels_of:
        values = np.array([float(v) for v in sigmas])
        assert len(values) == n and np.isfinite(values).all() and (np.diff(values) < 0).all(), (name, n)
        sampler, levels = ("dpmpp_2m", "class") if levels == "dpmpp_2m" else ("euler", levels)
        lines.append(f"{name} {sampler} {levels} leading {n} {offset} {source}\n")
        arrays.append(values)
        offset += n
    for sampler, spacing, n, sigmas, timesteps in diffusers_cases():
        lines.append(f"beta {sampler} class {spacing} {n} {offset} diffusers\n")
        arrays += [sigmas, timesteps]
        offset += 2 * n
    schedulers.write(folder, "sigmas", lines, arrays)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "testing/golden/schedulers")
