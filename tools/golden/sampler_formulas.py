"""Samplers that no package of PyPI has, spelled out in double precision from the published formulas.

Each takes `model`, which gives x0 by the guided and by the unconditional prediction at (x, sigma), the latents, the
falling sigmas that end with 0, and `noise`, which gives the next normals; and the sampler's options. tools/golden/schedulers.py
runs them.
"""
import math

import numpy as np
from scipy import integrate


def ancestral(start, end, eta):
    up = min(end, eta * math.sqrt(end ** 2 * (start ** 2 - end ** 2) / start ** 2))
    return math.sqrt(end ** 2 - up ** 2), up


def between(start, end, r):
    """The level at share r of a step in log sigma, as a run has it: float32."""
    return float(np.float32(math.exp((1 - r) * math.log(start) + r * math.log(end)))) if r < 1 else end


def phi_1(h):
    return math.expm1(h) / h


def phi_2(h):
    return (phi_1(h) - 1) / h


def sample_euler_cfg_pp(model, x, sigmas, noise, eta=0.0, s_noise=1.0):
    """CFG++ (arXiv 2406.08070, algorithm 1) with Euler's step: x' = D + sigma' (x - D_u) / sigma; ancestral with eta."""
    for start, end in zip(sigmas[:-1], sigmas[1:]):
        guided, without = model(x, start)
        down, up = ancestral(start, end, eta)
        x = guided + down * (x - without) / start
        if eta and end > 0:
            x = x + noise() * s_noise * up
    return x


def sample_euler_a_cfg_pp(model, x, sigmas, noise, eta=1.0, s_noise=1.0):
    return sample_euler_cfg_pp(model, x, sigmas, noise, eta, s_noise)


def sample_dpmpp_2m_cfg_pp(model, x, sigmas, noise):
    """DPM-Solver++(2M) with CFG++, as ComfyUI has it."""
    before = h_before = None
    for start, end in zip(sigmas[:-1], sigmas[1:]):
        guided, without = model(x, start)
        mix = -(end / start) * without
        h = math.log(start / end) if end > 0 else None
        if before is not None and end > 0:
            mix = mix + (1 - end / start) * (h / (2 * h_before)) * (guided - before)
        x = guided + mix + end / start * x
        before, h_before = without, h
    return x


def sample_dpmpp_2s_a_cfg_pp(model, x, sigmas, noise, eta=1.0, s_noise=1.0):
    """Ancestral DPM-Solver++(2S) with CFG++, as ComfyUI has it."""
    for start, end in zip(sigmas[:-1], sigmas[1:]):
        guided, without = model(x, start)
        guidance = guided - without
        down, up = ancestral(start, end, eta)
        if down == 0:
            x = without
        else:
            middle = between(start, down, 0.5)
            inner = middle / start * x + (1 - middle / start) * without
            _, without = model(inner, middle)
            x = down / start * x + (1 - down / start) * without
            if eta:
                x = x + noise() * s_noise * up
        x = x + guidance
    return x


def sample_heunpp2(model, x, sigmas, noise):
    """Heun++ of Carzit's sd-webui-samplers-scheduler."""
    n = len(sigmas) - 1
    for i in range(n):
        slopes, y = [], x
        for k in range(min(3, n - i)):
            level = sigmas[i + k]
            slopes.append((y - model(y, level)[0]) / level)
            y = y + slopes[-1] * (sigmas[i + k + 1] - level)
        shares = [sigmas[i + k] / (len(slopes) * sigmas[0]) for k in range(1, len(slopes))]
        mean = (1 - sum(shares)) * slopes[0] + sum(w * d for w, d in zip(shares, slopes[1:]))
        x = x + mean * (sigmas[i + 1] - sigmas[i])
    return x


def sample_dpmpp_2m_v2(model, x, sigmas, noise):
    """The rule of AUTOMATIC1111's discussion 8457, as stable-diffusion.cpp's dpm++2mv2 has it."""
    before = h_before = None
    for start, end in zip(sigmas[:-1], sigmas[1:]):
        now, _ = model(x, start)
        if before is None or end == 0:
            x = end / start * x + (1 - end / start) * now
        else:
            h = math.log(start / end)
            r = max(h, h_before) / min(h, h_before)
            mixed = (1 + 1 / (2 * r)) * now - before / (2 * r)
            x = end / start * x - math.expm1(-(h + h_before) / 2) * mixed
        before, h_before = now, math.log(start / end) if end > 0 else None
    return x


def adams(model, x, sigmas, max_order, coefficients):
    slopes = []
    for i, (start, end) in enumerate(zip(sigmas[:-1], sigmas[1:])):
        now, _ = model(x, start)
        slopes.insert(0, (x - now) / start)
        order = min(max_order, i + 1)
        if end == 0:
            x = now
        elif order == 1:
            x = x + (end - start) * slopes[0]
        else:
            x = x + sum(c * d for c, d in zip(coefficients(sigmas, i, order), slopes))
    return x


def sample_ipndm(model, x, sigmas, noise, max_order=4):
    """arXiv 2204.13902 (iPNDM), equation 37 and those before it."""
    table = {2: [3 / 2, -1 / 2], 3: [23 / 12, -16 / 12, 5 / 12], 4: [55 / 24, -59 / 24, 37 / 24, -9 / 24]}
    return adams(model, x, sigmas, max_order, lambda s, i, order: [(s[i + 1] - s[i]) * c for c in table[order]])


def sample_ipndm_v(model, x, sigmas, noise, max_order=4):
    """The same with the step's lengths, as diff-sampler's ipndm_v weighs them."""
    def coefficients(s, i, order):
        h = [s[i + 1 - k] - s[i - k] for k in range(order)] + [1.0] * (4 - order)
        a, b, c, d = h
        w = np.array([1 + a / (2 * b), -a / (2 * b), 0.0, 0.0])
        if order > 2:
            t = (1 - a / (3 * (a + b)) * (a * (a + b)) / (b * (b + c))) / 2
            w += t * np.array([1, -(1 + b / c), b / c, 0])
        if order > 3:
            t = ((1 - a / (3 * (a + b))) / 2 + (1 - a / (2 * (a + b))) * a / (6 * (a + b + c))) \
                * (a * (a + b) * (a + b + c)) / (b * (b + c) * (b + c + d))
            q = b * (b + c) / (c * (c + d))
            w += t * np.array([1, -(1 + b / c + q), b / c + q * (1 + c / d), -q * b / c])
        return a * w
    return adams(model, x, sigmas, max_order, coefficients)


def sample_deis(model, x, sigmas, noise, max_order=3):
    """arXiv 2204.13902, tAB-DEIS: the integrals of equation 15 over the time of the variance-preserving process."""
    top, eps = math.log(80.0 ** 2 + 1), 1e-3
    b = 2 * (math.log(0.002 ** 2 + 1) / eps - top) / (eps - 1)
    a = top - b / 2

    def time(sigma):
        return (math.sqrt(a * a + 2 * b * math.log(sigma * sigma + 1)) - a) / b

    def coefficients(s, i, order):
        nodes = [time(s[i - k]) for k in range(order)]

        def basis(sigma, k):
            return math.prod((time(sigma) - nodes[j]) / (nodes[k] - nodes[j]) for j in range(order) if j != k)
        return [integrate.quad(basis, s[i], s[i + 1], args=(k,), epsabs=1e-12, epsrel=1e-11)[0] for k in range(order)]
    return adams(model, x, sigmas, max_order, coefficients)


def sample_res_multistep(model, x, sigmas, noise, eta=0.0, s_noise=1.0, cfg_pp=False):
    """arXiv 2308.02157, the second-order multistep with b_1 = phi_1 - phi_2 / c_2, b_2 = phi_2 / c_2."""
    old = old_down = None
    for i, (start, end) in enumerate(zip(sigmas[:-1], sigmas[1:])):
        guided, without = model(x, start)
        down, up = ancestral(start, end, eta)
        own = without if cfg_pp else guided
        if down == 0 or old is None:
            x = guided + (x - own) / start * down
        else:
            h = math.log(start) - math.log(down)
            c_2 = (math.log(old_down) - math.log(sigmas[i - 1])) / h
            b_2 = phi_2(-h) / c_2
            b_1 = phi_1(-h) - b_2
            x = math.exp(-h) * (x + guided - own) + h * (b_1 * own + b_2 * old)
        if eta and end > 0:
            x = x + noise() * s_noise * up
        old, old_down = own, down
    return x


def sample_res_multistep_a(model, x, sigmas, noise, eta=1.0, s_noise=1.0):
    return sample_res_multistep(model, x, sigmas, noise, eta, s_noise)


def sample_res_multistep_cfg_pp(model, x, sigmas, noise):
    return sample_res_multistep(model, x, sigmas, noise, cfg_pp=True)


def sample_res_multistep_a_cfg_pp(model, x, sigmas, noise, eta=1.0, s_noise=1.0):
    return sample_res_multistep(model, x, sigmas, noise, eta, s_noise, True)


def sample_gradient_estimation(model, x, sigmas, noise, ge_gamma=2.0, cfg_pp=False):
    """arXiv 2306.04848, section 5: the slope gamma d + (1 - gamma) d_before."""
    before = None
    for start, end in zip(sigmas[:-1], sigmas[1:]):
        guided, without = model(x, start)
        d = (x - (without if cfg_pp else guided)) / start
        moved = guided + d * end if cfg_pp else x + d * (end - start)
        if end == 0:
            moved = guided
        elif before is not None:
            moved = moved + (ge_gamma - 1) * (d - before) * (end - start)
        x, before = moved, d
    return x


def sample_gradient_estimation_cfg_pp(model, x, sigmas, noise, ge_gamma=2.0):
    return sample_gradient_estimation(model, x, sigmas, noise, ge_gamma, True)


def sample_er_sde(model, x, sigmas, noise, max_stage=3, s_noise=1.0, solver_type="er_sde"):
    """arXiv 2309.06169, ER-SDE-Solver-3 with data prediction (algorithm 2 in variance-exploding coordinates); the
    integrals are sums over 200 points from the lower end, as in the authors' code."""
    phi = {"er_sde": lambda v: v * (np.exp(v ** 0.3) + 10), "reverse_time_sde": lambda v: v ** 2, "ode": lambda v: v}[solver_type]
    clean = []
    for i, (start, end) in enumerate(zip(sigmas[:-1], sigmas[1:])):
        clean.insert(0, model(x, start)[0])
        if end == 0:
            return clean[0]
        stage = min(max_stage, i + 1)
        r = phi(end) / phi(start)
        x = r * x + (1 - r) * clean[0]
        points = end + np.arange(200) * (start - end) / 200
        step = (start - end) / 200
        if stage > 1:
            first = (clean[0] - clean[1]) / (start - sigmas[i - 1])
            x = x + (end - start + np.sum(1 / phi(points)) * step * phi(end)) * first
        if stage > 2:
            earlier = (clean[1] - clean[2]) / (sigmas[i - 1] - sigmas[i - 2])
            second = (first - earlier) / ((start - sigmas[i - 2]) / 2)
            x = x + ((end - start) ** 2 / 2 + np.sum((points - start) / phi(points)) * step * phi(end)) * second
        if s_noise > 0 and solver_type != "ode":
            x = x + noise() * s_noise * math.sqrt(end ** 2 - start ** 2 * r ** 2)
    return x


def sample_seeds_2(model, x, sigmas, noise, eta=1.0, s_noise=1.0, r=0.5, solver_type="phi_1"):
    """arXiv 2305.14267, SEEDS-2 with data prediction; phi_2: the weights of the exponential Runge-Kutta method of
    second order (Hochbruck and Ostermann 2005)."""
    for start, end in zip(sigmas[:-1], sigmas[1:]):
        first = model(x, start)[0]
        if end == 0:
            return first
        middle, h = between(start, end, r), math.log(start / end)
        longer, inner = h * (1 + eta), math.log(start / middle)
        y = middle / start * math.exp(-inner * eta) * x - math.expm1(-inner * (1 + eta)) * first
        path = 0.0
        if eta > 0 and s_noise > 0:
            path = math.sqrt(-math.expm1(-2 * inner * eta)) * noise()
            y = y + middle * s_noise * path
        second = model(y, middle)[0]
        weight = -math.expm1(-longer) / (2 * r) if solver_type == "phi_1" else longer * phi_2(-longer) / r
        x = end / start * math.exp(-h * eta) * x - math.expm1(-longer) * first + weight * (second - first)
        if eta > 0 and s_noise > 0:
            rest = h - inner
            path = path * math.exp(-rest * eta) + math.sqrt(-math.expm1(-2 * rest * eta)) * noise()
            x = x + end * s_noise * path
    return x


def sample_exp_heun_2_x0(model, x, sigmas, noise, solver_type="phi_2"):
    return sample_seeds_2(model, x, sigmas, noise, 0.0, 0.0, 1.0, solver_type)


def sample_exp_heun_2_x0_sde(model, x, sigmas, noise, eta=1.0, s_noise=1.0, solver_type="phi_2"):
    return sample_seeds_2(model, x, sigmas, noise, eta, s_noise, 1.0, solver_type)


def sample_seeds_3(model, x, sigmas, noise, eta=1.0, s_noise=1.0, r_1=1 / 3, r_2=2 / 3):
    """arXiv 2305.14267, SEEDS-3 with data prediction."""
    noisy = eta > 0 and s_noise > 0
    for start, end in zip(sigmas[:-1], sigmas[1:]):
        first = model(x, start)[0]
        if end == 0:
            return first
        levels = [start, between(start, end, r_1), between(start, end, r_2), end]
        path, latest, y = 0.0, None, x
        for k in range(1, 4):
            h, before = math.log(start / levels[k]), math.log(start / levels[k - 1])
            longer = h * (1 + eta)
            y = levels[k] / start * math.exp(-h * eta) * x - math.expm1(-longer) * first
            if latest is not None:
                y = y + longer * phi_2(-longer) * (h / before) * (latest - first)
            if noisy:
                rest = h - before
                path = path * math.exp(-rest * eta) + math.sqrt(-math.expm1(-2 * rest * eta)) * noise()
                y = y + levels[k] * s_noise * path
            if k < 3:
                latest = model(y, levels[k])[0]
        x = y
    return x
