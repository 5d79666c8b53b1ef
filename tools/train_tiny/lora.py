"""Low-rank adapters (Hu et al., 2021) of a diffusers UNet, trained in place and written in the common spellings."""
import safetensors.torch
import torch


class LowRank(torch.nn.Module):
    """A linear layer or convolution plus up(down(x)) * alpha / rank; the layer itself is not trained.

    A convolution's `down` has its kernel and stride and its `up` is 1x1, as LoCon's are (LyCORIS).
    """

    def __init__(self, base, rank):
        super().__init__()
        self.base, self.rank, self.alpha = base, rank, rank
        if isinstance(base, torch.nn.Conv2d):
            self.down = torch.nn.Conv2d(base.in_channels, rank, base.kernel_size, base.stride, base.padding, bias=False)
            self.up = torch.nn.Conv2d(rank, base.out_channels, 1, bias=False)
        else:
            self.down = torch.nn.Linear(base.in_features, rank, bias=False)
            self.up = torch.nn.Linear(rank, base.out_features, bias=False)
        torch.nn.init.kaiming_uniform_(self.down.weight, a=5 ** 0.5)
        torch.nn.init.zeros_(self.up.weight)

    def forward(self, x, *_, **__):
        return self.base(x) + self.up(self.down(x)) * (self.alpha / self.rank)


def attach(unet, rank, conv_rank=0, only=""):
    """Wraps every linear layer, and every 3x3 convolution if conv_rank is not 0, whose name contains `only`.

    Returns {name: LowRank}; nothing else of the network has gradients afterwards.
    """
    unet.requires_grad_(False)
    wrapped = {}
    for name, layer in list(unet.named_modules()):
        linear = isinstance(layer, torch.nn.Linear)
        conv = isinstance(layer, torch.nn.Conv2d) and layer.kernel_size == (3, 3)
        if only not in name or not (linear or (conv and conv_rank)):
            continue
        parent, _, leaf = name.rpartition(".")
        adapter = LowRank(layer, rank if linear else conv_rank)
        owner = unet.get_submodule(parent) if parent else unet
        if isinstance(owner, torch.nn.ModuleList):
            owner[int(leaf)] = adapter
        else:
            setattr(owner, leaf, adapter)
        wrapped[name] = adapter
    return wrapped


def parameters(wrapped):
    return [p for a in wrapped.values() for p in (a.down.weight, a.up.weight)]


def save_kohya(wrapped, path, metadata):
    """lora_unet_NAME_WITH_UNDERSCORES.lora_down.weight, .lora_up.weight, .alpha, in float16."""
    tensors = {}
    for name, a in wrapped.items():
        key = "lora_unet_" + name.replace(".", "_")
        tensors[key + ".lora_down.weight"] = a.down.weight.detach().half().contiguous()
        tensors[key + ".lora_up.weight"] = a.up.weight.detach().half().contiguous()
        tensors[key + ".alpha"] = torch.tensor(float(a.alpha)).half()
    safetensors.torch.save_file(tensors, path, metadata=metadata)


def save_peft(wrapped, path, metadata):
    """unet.NAME.lora_A.weight and .lora_B.weight; the scale is 1, so no alpha, in float16."""
    tensors = {}
    for name, a in wrapped.items():
        tensors[f"unet.{name}.lora_A.weight"] = a.down.weight.detach().half().contiguous()
        tensors[f"unet.{name}.lora_B.weight"] = a.up.weight.detach().half().contiguous()
    safetensors.torch.save_file(tensors, path, metadata=metadata)
