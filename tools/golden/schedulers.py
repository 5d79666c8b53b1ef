#!/usr/bin/env python3
"""Vectors of the schedulers, from diffusers and k-diffusion in the versions of tools/golden/requirements.txt.

    python3 tools/golden/schedulers.py testing/golden/schedulers

A new sampler with a class in diffusers is a line of SAMPLERS, one without it a line of K_DIFFUSION, or of FORMULAS
where no package of PyPI has it (a function of sampler_formulas.py).

schedules.npy     float32, all arrays one after another; schedules.txt has a line per case:
                  sampler spacing schedule steps offset timesteps sigmas init_noise_scale
                  (`timesteps` values at `offset`, then `sigmas` values)
trajectories.npy  the same; trajectories.txt:
                  sampler spacing schedule prediction zero_snr steps first eta offset evaluations
                  (the latents before, then after each evaluation, VALUES floats each)
k_trajectories.*   the same, from k-diffusion and from formulas, with one more column: the options as they follow the
                  sampler's name. Before the latents lie the sigmas: one for each evaluation and the last, or the
                  levels where the number of evaluations is open
brownian.npy      of torchsde, as k-diffusion asks it; brownian.txt: seed low high from to values offset
references.txt    where each sampler's vectors are from: sampler, package, version, class or function
files.npy         of scheduler_config.json files with keys left out; files.txt:
                  sampler steps eta offset timesteps evaluations JSON
                  (timesteps, sigmas, then the latents before and after each evaluation)
lists.npy         of runs whose levels are listed; lists.txt:
                  sampler prediction eta offset timesteps evaluations init_noise_scale field list
                  (timesteps, sigmas, then the latents before and after each evaluation)
classes.txt       every scheduler class of this diffusers, then the keys it reads
A trajectory's model is `model` below; noise comes from a CPU generator seeded 7. Every class is made
as users make it, by from_pretrained on a folder: with SDXL base 1.0's file for schedules and
trajectories (the keys of the case changed), with its own for files.
"""
import functools
import importlib
import importlib.util
import inspect
import json
import os
import sys
import tempfile
import types
import warnings

import numpy as np
import torch
import diffusers

import sampler_formulas

VALUES = 32
SAMPLERS = {
    "euler": diffusers.EulerDiscreteScheduler,
    "euler_a": diffusers.EulerAncestralDiscreteScheduler,
    "heun": diffusers.HeunDiscreteScheduler,
    "lms": diffusers.LMSDiscreteScheduler,
    "ddim": diffusers.DDIMScheduler,
    "dpmpp_2m": diffusers.DPMSolverMultistepScheduler,
    "unipc": diffusers.UniPCMultistepScheduler,
    "lcm": diffusers.LCMScheduler,
    "tcd": diffusers.TCDScheduler,
}
# sampler: (function of k-diffusion's sampling.py, the sampler of SAMPLERS that has its levels). A
# sampler with levels of SCHED_RULE_EULER has those of "euler", one of SCHED_RULE_DPM those of "dpmpp_2m".
K_DIFFUSION = {
    "euler_a": ("sample_euler_ancestral", "euler_a"),
    "dpmpp_sde": ("sample_dpmpp_sde", "euler"),
    "dpmpp_2m_sde": ("sample_dpmpp_2m_sde", "euler"),
    "dpmpp_2s_a": ("sample_dpmpp_2s_ancestral", "euler"),
    "dpm_adaptive": ("sample_dpm_adaptive", "euler"),
    "dpm2": ("sample_dpm_2", "euler"),
    "dpm2_a": ("sample_dpm_2_ancestral", "euler"),
    "dpmpp_2m_sde_heun": ("sample_dpmpp_2m_sde", "euler"),
    "dpmpp_3m_sde": ("sample_dpmpp_3m_sde", "euler"),
}
# The same for functions of sampler_formulas.py, with the paper or program whose rule it is.
CFG_PP = "arxiv:2406.08070"
FORMULAS = {
    "euler_cfg_pp": ("sample_euler_cfg_pp", "euler", CFG_PP),
    "heunpp2": ("sample_heunpp2", "euler", "sd-webui-samplers-scheduler"),
    "dpmpp_2m_v2": ("sample_dpmpp_2m_v2", "euler", "stable-diffusion.cpp"),
    "deis": ("sample_deis", "euler", "arxiv:2204.13902"),
    "ipndm": ("sample_ipndm", "euler", "arxiv:2204.13902"),
    "ipndm_v": ("sample_ipndm_v", "euler", "diff-sampler"),
    "res_multistep": ("sample_res_multistep", "euler", "arxiv:2308.02157"),
    "res_multistep_a": ("sample_res_multistep_a", "euler", "arxiv:2308.02157"),
    "gradient_estimation": ("sample_gradient_estimation", "euler", "arxiv:2306.04848"),
    "er_sde": ("sample_er_sde", "euler", "arxiv:2309.06169"),
    "seeds_2": ("sample_seeds_2", "euler", "arxiv:2305.14267"),
    "seeds_3": ("sample_seeds_3", "euler", "arxiv:2305.14267"),
    "exp_heun_2_x0": ("sample_exp_heun_2_x0", "euler", "doi:10.1137/040611434"),
    "exp_heun_2_x0_sde": ("sample_exp_heun_2_x0_sde", "euler", "arxiv:2305.14267"),
    "euler_a_cfg_pp": ("sample_euler_a_cfg_pp", "euler", CFG_PP),
    "dpmpp_2m_cfg_pp": ("sample_dpmpp_2m_cfg_pp", "euler", CFG_PP),
    "dpmpp_2s_a_cfg_pp": ("sample_dpmpp_2s_a_cfg_pp", "euler", CFG_PP),
    "res_multistep_cfg_pp": ("sample_res_multistep_cfg_pp", "euler", CFG_PP),
    "res_multistep_a_cfg_pp": ("sample_res_multistep_a_cfg_pp", "euler", CFG_PP),
    "gradient_estimation_cfg_pp": ("sample_gradient_estimation_cfg_pp", "euler", CFG_PP),
}
NOISY = [{}, {"eta": 0.5}, {"s_noise": 1.1}]
# sampler: what it can be given, a run each.
OPTIONS = {
    "dpmpp_sde": [{}, {"eta": 0.5}, {"eta": 0.0}, {"r": 0.3}, {"s_noise": 1.1, "r": 1.0}],
    "dpmpp_2m_sde": [{}, {"eta": 0.5}, {"eta": 0.0}, {"s_noise": 1.1}],
    "dpmpp_2s_a": [{}, {"eta": 0.5}, {"eta": 0.0}, {"s_noise": 1.1}],
    "dpm_adaptive": [{}, {"denoise_to_zero": 0}, {"order": 2}, {"rtol": 0.01, "atol": 0.002}, {"eta": 0.5},
                     {"eta": 1.0, "s_noise": 1.2, "order": 2}, {"h_init": 2.0, "accept_safety": 0.9},
                     {"pcoeff": 0.2, "icoeff": 0.7, "dcoeff": 0.1, "rtol": 0.02}],
    "euler_cfg_pp": [{}],
    "dpm2": [{}],
    "dpm2_a": [*NOISY, {"eta": 0.0}],
    "dpmpp_2m_sde_heun": [*NOISY, {"eta": 0.0}],
    "dpmpp_3m_sde": [*NOISY, {"eta": 0.0}],
    "deis": [{}, {"max_order": 2}, {"max_order": 4}],
    "ipndm": [{}, {"max_order": 3}, {"max_order": 2}],
    "ipndm_v": [{}, {"max_order": 3}, {"max_order": 2}],
    "gradient_estimation": [{}, {"ge_gamma": 1.5}],
    "gradient_estimation_cfg_pp": [{}, {"ge_gamma": 1.5}],
    "er_sde": [{}, {"max_stage": 2}, {"max_stage": 1, "s_noise": 1.1}, {"solver_type": "ode"},
               {"solver_type": "reverse_time_sde"}],
    "seeds_2": [*NOISY, {"r": 0.3}, {"solver_type": "phi_2", "r": 0.8}],
    "seeds_3": [*NOISY, {"r_1": 0.25, "r_2": 0.75}],
    "exp_heun_2_x0": [{}, {"solver_type": "phi_1"}],
    "exp_heun_2_x0_sde": [*NOISY, {"solver_type": "phi_1"}],
    "res_multistep_a": NOISY,
    "res_multistep_a_cfg_pp": NOISY,
    "euler_a_cfg_pp": NOISY,
    "dpmpp_2s_a_cfg_pp": NOISY,
}
LONG_RUNS = {"euler_a", "dpmpp_sde", "dpmpp_2m_sde", "dpmpp_2s_a", "dpm_adaptive"}  # with every option
K_DIFFUSION_VERSION = "0.1.1.post1"
VARIANCE_PRESERVING = {"ddim", "dpmpp_2m", "unipc", "lcm", "tcd"}
CONSISTENCY = {"lcm", "tcd"}  # timesteps of their own, whatever the spacing
ETA = {"euler_a": 1.0, "tcd": 0.3}
SPACINGS = ["leading", "trailing", "linspace"]
FLAGS = {"normal": None, "karras": "use_karras_sigmas", "exponential": "use_exponential_sigmas"}
ZERO_SNR = ["euler", "euler_a", "ddim", "dpmpp_2m", "unipc", "lcm", "tcd"]


def schedules_of(sampler):
    return ["normal"] if sampler in {"ddim", "euler_a"} | CONSISTENCY else list(FLAGS)


def spacings_of(sampler):
    return SPACINGS[:1] if sampler in CONSISTENCY else SPACINGS


SDXL_BASE = {  # stabilityai/stable-diffusion-xl-base-1.0, scheduler/scheduler_config.json
    "_class_name": "EulerDiscreteScheduler", "_diffusers_version": "0.19.0.dev0", "beta_end": 0.012,
    "beta_schedule": "scaled_linear", "beta_start": 0.00085, "clip_sample": False,
    "interpolation_type": "linear", "num_train_timesteps": 1000, "prediction_type": "epsilon",
    "sample_max_value": 1.0, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1,
    "timestep_spacing": "leading", "trained_betas": None, "use_karras_sigmas": False}


def from_file(sampler, config):
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "scheduler_config.json"), "w") as f:
            json.dump(config, f)
        return SAMPLERS[sampler].from_pretrained(folder)


def make(sampler, spacing, schedule, prediction="epsilon", zero_snr=False):
    config = dict(SDXL_BASE, prediction_type=prediction, timestep_spacing=spacing)
    if FLAGS[schedule]:
        config[FLAGS[schedule]] = True
    if zero_snr:
        config["rescale_betas_zero_snr"] = True
    return from_file(sampler, config)


def sigmas_of(sampler, scheduler):
    if sampler not in {"ddim"} | CONSISTENCY:
        return scheduler.sigmas.numpy()
    bars = [scheduler.alphas_cumprod[t] for t in scheduler.timesteps]
    # Where the last step leads: lcm to the model's image, tcd to timestep 0.
    bars.append({"lcm": torch.tensor(1.0), "tcd": scheduler.alphas_cumprod[0]}.get(sampler, scheduler.final_alpha_cumprod))
    return np.array([float(((1 - b) / b) ** 0.5) for b in bars])


def model(x, timestep):
    """A smooth stand-in: in double, rounded once, so that C can repeat it to the bit."""
    x = x.numpy().astype(np.float64)
    y = 0.55 * x - 0.25 * np.roll(x, -5) + 0.3 * (x / (1 + x * x)) + 0.0002 * timestep
    return torch.from_numpy(y.astype(np.float32))


def trajectory(sampler, spacing, schedule, prediction, zero_snr, steps, first, eta):
    return follow(sampler, make(sampler, spacing, schedule, prediction, zero_snr), steps, first, eta)


def follow(sampler, scheduler, steps, first, eta, **levels):
    scheduler.set_timesteps(**(levels or {"num_inference_steps": steps}))
    start = torch.randn(VALUES, generator=torch.Generator().manual_seed(1))
    begin = first * scheduler.order
    if first:
        scheduler.set_begin_index(begin) if hasattr(scheduler, "set_begin_index") else None
        clean = torch.randn(VALUES, generator=torch.Generator().manual_seed(2))
        x = scheduler.add_noise(clean[None], start[None], scheduler.timesteps[begin:begin + 1])[0]
    else:
        x = start * scheduler.init_noise_sigma
    noise = torch.Generator().manual_seed(7)
    extra = {"generator": noise} if sampler in {"euler_a", "ddim"} | CONSISTENCY else {}
    if sampler in ("ddim", "tcd"):
        extra["eta"] = eta
    rows = [x.numpy()]
    for t in scheduler.timesteps[begin:]:
        pred = model(scheduler.scale_model_input(x, t), float(t))
        x = scheduler.step(pred[None], t, x[None], **extra).prev_sample[0]
        rows.append(x.numpy())
    return np.stack(rows)


@functools.cache
def k_sampling():
    """k-diffusion's sampling.py without the package's __init__, which imports what training needs."""
    package = types.ModuleType("k_diffusion")
    package.__path__ = list(importlib.util.find_spec("k_diffusion").submodule_search_locations)
    sys.modules["k_diffusion"] = package
    return importlib.import_module("k_diffusion.sampling")


def takes_eta(sample):
    return {"eta", "noise_sampler"} <= inspect.signature(sample).parameters.keys()


def uncond_model(x, timestep):
    """What the unconditional prediction is to `model`."""
    return model(x, timestep) * torch.tensor(0.875) + torch.tensor(0.125)


class Denoiser:
    """k-diffusion's view of `model`: D(x, sigma). Keeps the latents of each evaluation and draws noise at each, as
    Darkroom's euler_a does; `noise` gives the last that was drawn, `fresh` draws when it is called."""

    def __init__(self, scheduler, preserving, prediction="epsilon"):
        bars = scheduler.alphas_cumprod.double()
        self.log_sigmas = (((1 - bars) / bars) ** 0.5).log().numpy()
        self.levels = {float(s): float(t) for s, t in zip(scheduler.sigmas, scheduler.timesteps)}
        self.generator, self.own = torch.Generator().manual_seed(7), torch.Generator().manual_seed(7)
        self.preserving, self.prediction, self.rows, self.drawn = preserving, prediction, [], None

    def timestep(self, sigma):
        """Of a level of the run, or of one between them."""
        known = self.levels.get(sigma)
        return known if known is not None else float(np.interp(np.log(sigma), self.log_sigmas,
                                                               np.arange(len(self.log_sigmas))))

    def denoised(self, x, level, predict):
        scale = (level * level + 1) ** 0.5
        pred = predict(x[0] / scale, self.timestep(level))[None]
        if self.prediction == "v_prediction":
            return x / (scale * scale) - level / scale * pred
        return x - level * pred

    def __call__(self, x, sigma, **extra):
        level = float(sigma[0])
        self.rows.append((x[0] / (level * level + 1) ** 0.5 if self.preserving else x[0]).numpy().copy())
        self.drawn = torch.randn(VALUES, generator=self.generator)[None]
        return self.denoised(x, level, model)

    def noise(self, sigma, sigma_next):
        return self.drawn

    def fresh(self, sigma, sigma_next):
        return torch.randn(VALUES, generator=self.own, dtype=torch.float32)[None]


class Exact:
    """The view of `model` that sampler_formulas.py has: both predictions' x0 in double. Keeps latents and levels."""

    def __init__(self, denoiser):
        self.denoiser, self.rows, self.levels = denoiser, [], []

    def __call__(self, x, sigma):
        self.rows.append(x.astype(np.float32))
        self.levels.append(sigma)
        x = torch.from_numpy(x)[None]
        return tuple(self.denoiser.denoised(x, sigma, predict)[0].numpy().astype(np.float64)
                     for predict in (model, uncond_model))

    def noise(self):
        return self.denoiser.fresh(None, None)[0].numpy().astype(np.float64)


def inner_levels(sigmas, r, eta=0.0):
    """A level inside each step but the last, float32 of the exact value; with eta inside of the step to `down`."""
    levels = []
    for sigma, after in zip(sigmas[:-1].double(), sigmas[1:].double()):
        levels.append(float(sigma))
        if after > 0:
            down = k_sampling().get_ancestral_step(sigma, after, eta)[0]
            inner = float(torch.exp((1 - r) * sigma.log() + r * down.log())) if r < 1 else float(after)
            levels.append(float(np.float32(inner)))
    return levels + [float(sigmas[-1])]


class BrownianNoise:
    """k-diffusion's noise of a Brownian tree at exactly the given levels: the tree tells levels apart that differ in
    the last bit of float32, and sample_dpmpp_sde's inner ones do."""

    def __init__(self, x, levels, seed):
        self.levels = torch.tensor(levels, dtype=torch.float32)
        above = self.levels[self.levels > 0]
        self.inner = k_sampling().BrownianTreeNoiseSampler(x, above.min(), above.max(), seed=seed)

    def nearest(self, sigma):
        return self.levels[(self.levels - sigma).abs().argmin()]

    def __call__(self, sigma, sigma_next):
        return self.inner(self.nearest(sigma), self.nearest(sigma_next))


def k_trajectory(sampler, spacing, schedule, prediction, steps, options):
    """The sigmas and the latents before and after each evaluation."""
    function, levels = {**K_DIFFUSION, **FORMULAS}[sampler][:2]
    scheduler = make(levels, spacing, schedule)
    scheduler.set_timesteps(steps)
    denoiser = Denoiser(scheduler, sampler in VARIANCE_PRESERVING, prediction)
    x = torch.randn(VALUES, generator=torch.Generator().manual_seed(1)) * scheduler.init_noise_sigma
    if denoiser.preserving:
        x = x * (float(scheduler.sigmas[0]) ** 2 + 1) ** 0.5
    x = x[None]
    # Heun asks twice at each level but the first: take those of one evaluation a step.
    sigmas = torch.unique_consecutive(scheduler.sigmas)
    if sampler in FORMULAS:
        exact = Exact(denoiser)
        end = getattr(sampler_formulas, function)(exact, x[0].numpy().astype(np.float64), sigmas.double().tolist(),
                                                  exact.noise, **options)
        return np.float32(exact.levels + [float(sigmas[-1])]), np.stack(exact.rows + [end.astype(np.float32)])
    elif sampler == "dpm_adaptive":
        last = options.pop("denoise_to_zero", 1)
        torch.set_default_dtype(torch.float64)  # times in float32 would be off by 1e-6
        end = k_sampling().sample_dpm_adaptive(denoiser, x.double(), float(sigmas[-2]), float(sigmas[0]), disable=True,
                                               noise_sampler=denoiser.fresh, **options)
        torch.set_default_dtype(torch.float32)
        if last:
            end = denoiser(end, sigmas[-2:-1])
    elif sampler in ("dpmpp_sde", "dpmpp_2m_sde", "dpmpp_2m_sde_heun", "dpmpp_3m_sde"):
        if sampler == "dpmpp_2m_sde_heun":
            options["solver_type"] = "heun"
        inner = inner_levels(sigmas, options.get("r", 0.5)) if sampler == "dpmpp_sde" else sigmas.tolist()
        end = getattr(k_sampling(), function)(denoiser, x, sigmas, disable=True,
                                              noise_sampler=BrownianNoise(x, inner, 7), **options)
        sigmas = torch.tensor(inner)
    elif sampler in ("dpmpp_2s_a", "dpm2", "dpm2_a"):
        inner = inner_levels(sigmas, 0.5, 0.0 if sampler == "dpm2" else options.get("eta", 1.0))
        noise = {} if sampler == "dpm2" else {"noise_sampler": denoiser.fresh}
        end = getattr(k_sampling(), function)(denoiser, x, sigmas, disable=True, **noise, **options)
        sigmas = torch.tensor(inner)
    else:
        sample = getattr(k_sampling(), function)
        noise = {"noise_sampler": denoiser.noise} if takes_eta(sample) else {}
        end = sample(denoiser, x, sigmas, disable=True, **noise, **options)
    return sigmas.numpy(), np.stack(denoiser.rows + [end[0].numpy()])


def options_of(sampler, function):
    if sampler in OPTIONS:
        return OPTIONS[sampler]
    return [{"eta": eta} for eta in (1.0, 0.5, 0.0)] if sampler in K_DIFFUSION and \
        takes_eta(getattr(k_sampling(), function)) else [{}]


def k_cases():
    for sampler, (function, *_) in {**K_DIFFUSION, **FORMULAS}.items():
        for options in options_of(sampler, function):
            many = sampler in LONG_RUNS or not options
            for spacing, steps in (("leading", 7), ("trailing", 20))[:2 if many else 1]:
                yield sampler, spacing, "normal", "epsilon", steps, options
        if sampler in OPTIONS:
            yield sampler, "leading", "normal", "v_prediction", 7, OPTIONS[sampler][0]
            yield sampler, "leading", "karras", "epsilon", 12, OPTIONS[sampler][0]


def write_k_trajectories(folder):
    lines, arrays, offset = [], [], 0
    for sampler, spacing, schedule, prediction, steps, options in k_cases():
        sigmas, rows = k_trajectory(sampler, spacing, schedule, prediction, steps, dict(options))
        assert np.isfinite(rows).all(), (sampler, spacing, steps, options)
        eta = options.get("eta", {"dpm_adaptive": 0.0, "euler_cfg_pp": 0.0}.get(sampler, 1.0))
        spelled = "".join(f",{key}={value if isinstance(value, str) else format(value, 'g')}" for key, value in options.items() if key != "eta") or "-"
        lines.append(f"{sampler} {spacing} {schedule} {prediction} 0 {steps} 0 {eta:g} {offset} {len(rows) - 1} "
                     f"{len(sigmas)} {spelled}\n")
        arrays += [sigmas, rows.ravel()]
        offset += len(sigmas) + rows.size
    write(folder, "k_trajectories", lines, arrays)


def brownian_cases():
    """seed, ends of the path, ends of the interval, values."""
    ends = (0.029167, 14.6146)
    for seed in (0, 1, 7, 2024, 2 ** 32 - 1, 2 ** 32 + 5, 2 ** 63 - 1, 2 ** 64 - 1):
        for interval in ((14.6146, 0.029167), (14.6146, 7.321815), (14.6146, 9.5), (9.5, 3.25), (3.25, 0.5),
                         (0.5, 0.029167), (1.000001, 1.0), (0.0421, 0.029167), (2.0, 11.0)):
            yield seed, *ends, *interval, VALUES
    yield 3, 0.25, 8.0, 8.0, 1.0, 7
    yield 3, 0.25, 8.0, 4.125, 4.0, 12
    yield 3, 0.03, 4096.0, 4096.0, 11.5, VALUES
    yield 3, 0.5, 8.0, 9.0, 0.1, VALUES  # beyond both ends


def write_brownian(folder):
    lines, arrays, offset = [], [], 0
    for seed, low, high, start, end, values in brownian_cases():
        low, high, start, end = (torch.tensor(v, dtype=torch.float32) for v in (low, high, start, end))
        sampler = k_sampling().BrownianTreeNoiseSampler(torch.zeros(1, values), low, high, seed=seed)
        arrays.append(sampler(start, end)[0].numpy())
        lines.append(f"{seed} {float(low):.17g} {float(high):.17g} {float(start):.17g} {float(end):.17g} {values} {offset}\n")
        offset += values
    write(folder, "brownian", lines, arrays)


def references():
    for sampler, scheduler in SAMPLERS.items():
        yield f"{sampler} diffusers {diffusers.__version__} {scheduler.__name__}\n"
    for sampler, (function, _) in K_DIFFUSION.items():
        yield f"{sampler} k-diffusion {K_DIFFUSION_VERSION} {function}\n"
    for sampler, (function, _, paper) in FORMULAS.items():
        yield f"{sampler} formula {paper} {function}\n"


def trajectory_cases():
    for s in SAMPLERS:
        eta = ETA.get(s, 0.0)
        for steps in (1, 2, 7, 20, 50):
            yield s, "leading", "normal", "epsilon", False, steps, 0, eta
        for spacing in spacings_of(s)[1:]:
            yield s, spacing, "normal", "epsilon", False, 7, 0, eta
        for schedule in schedules_of(s)[1:]:
            yield s, "leading", schedule, "epsilon", False, 7, 0, eta
            yield s, "trailing", schedule, "v_prediction", False, 20, 0, eta
        yield s, "leading", "normal", "v_prediction", False, 7, 0, eta
        if s != "euler_a":
            yield s, "leading", "normal", "sample", False, 7, 0, eta
        yield s, "leading", "normal", "epsilon", False, 7, 4, eta
        if s in ZERO_SNR:
            yield s, "trailing", "normal", "v_prediction", True, 7, 0, eta
    for eta in (0.5, 1.0):
        yield "ddim", "leading", "normal", "epsilon", False, 20, 0, eta
        yield "ddim", "trailing", "normal", "v_prediction", False, 7, 0, eta
    for eta in (0.0, 0.5, 1.0):
        yield "tcd", "leading", "normal", "epsilon", False, 8, 0, eta
    for steps in (1, 2, 4, 8):  # of distilled models
        for s in ("euler", "ddim"):
            yield s, "trailing", "normal", "epsilon", False, steps, 0, 0.0
        for s in ("lcm", "tcd"):
            yield s, "leading", "normal", "epsilon", False, steps, 0, ETA.get(s, 0.0)


def write(folder, name, lines, arrays):
    np.save(os.path.join(folder, name + ".npy"), np.concatenate(arrays).astype("<f4"))
    with open(os.path.join(folder, name + ".txt"), "w") as f:
        f.write("".join(lines))


# As many steps as the model has timesteps, where the classes go through with it: the first two
# levels of leading are one, the DPM solvers' own ranges have no need of the spacing.
WHOLE = [("euler", "leading", "normal"), ("euler", "leading", "karras"),
         ("euler_a", "leading", "normal"), ("heun", "leading", "normal"),
         ("ddim", "trailing", "normal"), ("dpmpp_2m", "leading", "karras"),
         ("dpmpp_2m", "leading", "exponential"), ("unipc", "leading", "karras")]


def file_cases():
    """sampler, steps, eta and a scheduler_config.json: of the sampler's own class with few keys, and
    of the shipped model, which has them all."""
    shipped = os.path.join(os.path.dirname(__file__), "../../share/models/tiny/scheduler/scheduler_config.json")
    with open(shipped) as f:
        every_key = json.load(f)
    some = [{}, {"prediction_type": "v_prediction"}, {"beta_schedule": "scaled_linear"}, {"beta_start": 0.002},
            {"beta_end": 0.012}, {"timestep_spacing": "trailing"}, {"timestep_spacing": "leading"},
            {"timestep_spacing": "leading", "steps_offset": 3}, {"num_train_timesteps": 500}]
    own = {name: list(some) for name in SAMPLERS}
    own["ddim"] += [{"clip_sample": False}, {"set_alpha_to_one": False}, {"clip_sample_range": 0.5},
                    {"clip_sample": False, "set_alpha_to_one": False}, {"timestep_spacing": "linspace"}]
    for name in ("euler", "heun", "lms", "dpmpp_2m", "unipc"):
        own[name] += [{"use_karras_sigmas": True}, {"use_exponential_sigmas": True, "timestep_spacing": "trailing"}]
    for name in ZERO_SNR:
        own[name].append({"prediction_type": "v_prediction", "rescale_betas_zero_snr": True,
                          "timestep_spacing": "trailing", "beta_schedule": "scaled_linear",
                          "beta_start": 0.00085, "beta_end": 0.012})
    own["lcm"] += [{"original_inference_steps": 40}, {"timestep_scaling": 3.0}]
    own["tcd"] += [{"original_inference_steps": 40}]
    for name in SAMPLERS:
        eta = ETA.get(name, 0.0)
        for keys in own[name]:
            yield name, 7, eta, {"_class_name": SAMPLERS[name].__name__, **keys}
        yield name, 7, eta, every_key
    yield "ddim", 7, 0.6, {"_class_name": "DDIMScheduler"}


def write_files(folder):
    lines, arrays, offset = [], [], 0
    for sampler, steps, eta, config in file_cases():
        rows = follow(sampler, from_file(sampler, config), steps, 0, eta)
        assert np.isfinite(rows).all(), (sampler, config)
        scheduler = from_file(sampler, config)
        scheduler.set_timesteps(steps)
        t, s = scheduler.timesteps.numpy(), sigmas_of(sampler, scheduler)
        lines.append(f"{sampler} {steps} {eta:g} {offset} {len(t)} {len(rows) - 1} {json.dumps(config)}\n")
        arrays += [t, s, rows.ravel()]
        offset += len(t) + len(s) + rows.size
    write(folder, "files", lines, arrays)


def list_cases():
    """sampler, prediction, eta, the argument of set_timesteps, its values."""
    distilled = [999, 749, 499, 249]
    for sampler in ("euler", "heun", "dpmpp_2m", "lcm", "tcd"):
        for timesteps in (distilled, [399], [800], [900, 61, 7, 3]):
            yield sampler, "epsilon", ETA.get(sampler, 0.0), "timesteps", timesteps
        yield sampler, "v_prediction", ETA.get(sampler, 0.0), "timesteps", distilled
    for eta in (0.0, 1.0):
        yield "tcd", "epsilon", eta, "timesteps", distilled
    yield "euler", "epsilon", 0.0, "timesteps", [999, 740.5, 10.25]
    for sigmas in ([14.614646, 5.5, 1.25, 0.125, 0.0], [30.0, 3.0, 0.0], [0.7, 0.0]):
        yield "euler", "epsilon", 0.0, "sigmas", sigmas


def write_lists(folder):
    lines, arrays, offset = [], [], 0
    for sampler, prediction, eta, field, values in list_cases():
        levels = {field: values}
        rows = follow(sampler, make(sampler, "leading", "normal", prediction), None, 0, eta, **levels)
        assert np.isfinite(rows).all(), (sampler, values)
        scheduler = make(sampler, "leading", "normal", prediction)
        scheduler.set_timesteps(**levels)
        t, s = scheduler.timesteps.numpy(), sigmas_of(sampler, scheduler)
        lines.append(f"{sampler} {prediction} {eta:g} {offset} {len(t)} {len(rows) - 1} "
                     f"{float(scheduler.init_noise_sigma):.9g} {field} {','.join(f'{v:.9g}' for v in values)}\n")
        arrays += [t, s, rows.ravel()]
        offset += len(t) + len(s) + rows.size
    write(folder, "lists", lines, arrays)


def write_classes(folder):
    names = [n for n in dir(diffusers.schedulers) if n.endswith("Scheduler")]
    with open(os.path.join(folder, "classes.txt"), "w") as f:
        for name in names:
            keys = list(inspect.signature(getattr(diffusers.schedulers, name).__init__).parameters)[1:]
            f.write(" ".join([name, *(k for k in keys if k not in ("args", "kwargs"))]) + "\n")


def schedule_cases():
    for sampler in SAMPLERS:
        for spacing in spacings_of(sampler):
            for schedule in schedules_of(sampler):
                for steps in (1, 2, 7, 20, 50):
                    yield sampler, spacing, schedule, steps
    for case in WHOLE:
        yield *case, 1000


def main(folder):
    warnings.simplefilter("ignore")
    os.makedirs(folder, exist_ok=True)
    lines, arrays, offset = [], [], 0
    for sampler, spacing, schedule, steps in schedule_cases():
        scheduler = make(sampler, spacing, schedule)
        scheduler.set_timesteps(steps)
        t, s = scheduler.timesteps.numpy(), sigmas_of(sampler, scheduler)
        lines.append(f"{sampler} {spacing} {schedule} {steps} {offset} "
                     f"{len(t)} {len(s)} {float(scheduler.init_noise_sigma):.9g}\n")
        arrays += [t, s]
        offset += len(t) + len(s)
    write(folder, "schedules", lines, arrays)
    lines, arrays, offset = [], [], 0
    for case in trajectory_cases():
        rows = trajectory(*case)
        assert np.isfinite(rows).all(), case
        sampler, spacing, schedule, prediction, zero_snr, steps, first, eta = case
        lines.append(f"{sampler} {spacing} {schedule} {prediction} {int(zero_snr)} {steps} {first} "
                     f"{eta:g} {offset} {len(rows) - 1}\n")
        arrays.append(rows.ravel())
        offset += rows.size
    write(folder, "trajectories", lines, arrays)
    write_k_trajectories(folder)
    write_brownian(folder)
    with open(os.path.join(folder, "references.txt"), "w") as f:
        f.write("".join(references()))
    write_files(folder)
    write_lists(folder)
    write_classes(folder)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "testing/golden/schedulers")
