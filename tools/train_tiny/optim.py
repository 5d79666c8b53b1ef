"""Muon: momentum whose matrix-shaped updates are orthogonalised (Jordan et al., 2024), with AdamW for the rest.

Much faster than AdamW alone on networks this small.  Convolution kernels count as matrices of
(outputs, inputs x window).
"""
import torch


def orthogonal(m, steps=5):
    """About the nearest semi-orthogonal matrix of each matrix in a batch, by the quintic Newton-Schulz iteration."""
    tall = m.shape[-2] > m.shape[-1]
    x = m.mT if tall else m
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(steps):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.mT if tall else x).float()


class Muon:
    """matrices: parameters for Muon; others: parameters for AdamW.  Rates are set at each step by scale.

    With torch.distributed set up, every process holds the same parameters: step averages the gradients, and
    each process orthogonalises its share of the matrices for all.
    """

    def __init__(self, matrices, others, rate, other_rate, momentum=0.95, decay=0.01):
        self.groups = {}
        for p in matrices:
            self.groups.setdefault((p.shape[0], p[0].numel()), []).append(p)
        self.momentum = {k: torch.zeros(len(v), *k) for k, v in self.groups.items()}
        self.rate, self.beta, self.decay = rate, momentum, decay
        self.adam = torch.optim.AdamW(others, other_rate, betas=(0.9, 0.99), weight_decay=0.0, foreach=True)
        self.other_rate = other_rate
        self.all = [*matrices, *others]
        self.shared = torch.distributed.is_initialized()

    def clip(self, largest=1.0):
        """Averages the gradients of all processes and bounds their norm."""
        for p in self.all:
            if p.grad is None:  # the first encoder's last layer and norm, which no one looks at
                p.grad = torch.zeros_like(p)
        if self.shared:
            flat = torch.cat([p.grad.reshape(-1) for p in self.all])
            torch.distributed.all_reduce(flat)
            flat /= torch.distributed.get_world_size()
            for p, part in zip(self.all, flat.split([p.numel() for p in self.all])):
                p.grad.copy_(part.view(p.shape))
        torch.nn.utils.clip_grad_norm_(self.all, largest)

    def updates(self):
        """The orthogonalised update of each group, in the order of the groups."""
        out = {}
        mine, of = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if self.shared else (0, 1)
        for shape, members in self.groups.items():
            grad = torch.stack([p.grad.reshape(shape) for p in members])
            m = self.momentum[shape]
            m.lerp_(grad, 1 - self.beta)
            out[shape] = torch.zeros_like(grad)
            own = slice(mine, None, of)
            if len(members[own]) > 0:
                out[shape][own] = orthogonal(grad[own].lerp(m[own], self.beta))
        if self.shared:
            flat = torch.cat([u.reshape(-1) for u in out.values()])
            torch.distributed.all_reduce(flat)
            parts = flat.split([u.numel() for u in out.values()])
            out = {k: part.view(u.shape) for (k, u), part in zip(out.items(), parts)}
        return out

    def step(self, scale):
        for g in self.adam.param_groups:
            g["lr"] = self.other_rate * scale
        self.adam.step()
        rate = self.rate * scale
        with torch.no_grad():
            for shape, update in self.updates().items():
                gain = max(1.0, shape[0] / shape[1]) ** 0.5
                for p, u in zip(self.groups[shape], update):
                    p.mul_(1 - rate * self.decay).add_(u.reshape(p.shape), alpha=-rate * gain)

    def state_dict(self):
        return {"momentum": self.momentum, "adam": self.adam.state_dict()}

    def load_state_dict(self, state):
        self.momentum = state["momentum"]
        self.adam.load_state_dict(state["adam"])
