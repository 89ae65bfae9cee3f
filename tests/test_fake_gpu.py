"""A step of every full-size network on tensors that claim to be on a GPU and hold nothing: it waits for no value.

FakeTensorMode runs a step as CUDA would take it (devices, dtypes, memory formats, multi-tensor kernels) without a GPU;
nothing is computed.
"""

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from runs import cli
from training.trainer import Trainer

from .helpers import composed

GPU = torch.device("cuda")
NETWORKS = {
    "mlp": "fig2",
    "resnet50": "fig1ab",
    "densenet121": "fig1cd",
    "wrn26": "fig1ef",
    "resnext29": "fig1gh",
    "resnet50_imagenet": "fig1ij",
}


class Waits(Exception):
    pass


class Watch(TorchDispatchMode):
    """Raises Waits where a step reads from the device; notes the dtypes of what convolutions and products give."""

    def __init__(self):
        super().__init__()
        self.products = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in ("_local_scalar_dense", "nonzero", "is_nonzero"):
            raise Waits(name)
        found = func(*args, **kwargs or {})
        places = [{x.device.type for x in some if isinstance(x, torch.Tensor)} for some in (args, [found])]
        if "cuda" in places[0] and places[1] == {"cpu"}:
            raise Waits(name)
        if name in ("convolution", "addmm", "mm"):
            self.products.add(found.dtype)
        return found


def moved(module: nn.Module, to=None, memory_format=torch.preserve_format) -> nn.Module:
    """nn.Module.to cannot exchange fake parameters: they are made on the GPU, and laid out in place."""
    for p in module.parameters():
        if p.dim() == 4:
            p.data = p.data.to(memory_format=memory_format)
    return module


@pytest.fixture
def gpu(monkeypatch):
    """What autocast checks before it uses a GPU."""
    monkeypatch.setattr(nn.Module, "to", moved)
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: True)


def gradients(loss: torch.Tensor, model: nn.Module) -> None:
    for p in model.parameters():
        p.grad = torch.empty_like(p)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("numerics", ["strict", "fast"])
@pytest.mark.parametrize("device", ["cuda", pytest.param("cpu", marks=pytest.mark.slow)])
def test_a_step_of_every_network_waits_for_nothing(network, numerics, device, gpu, monkeypatch):
    """torch's backward pass asks the driver for its GPU, so that it is left out on "cuda" and stands on "cpu" alone."""
    config = cli.typed(composed(f"experiment={NETWORKS[network]}", f"numerics={numerics}", "compile=none",
                                "optimizer=powersgdm"))  # fmt: skip
    assert config.model.name == network and config.tier == "paper"
    with FakeTensorMode(), torch.device(device) as here:
        trainer = Trainer(config, here, images=3 * config.batch_size)
        if device == "cuda":
            monkeypatch.setattr(torch.Tensor, "backward", lambda loss: gradients(loss, trainer.model))
        inputs = torch.empty(config.batch_size, *config.dataset.image_shape)
        labels = torch.empty(config.batch_size, dtype=torch.int64)
        with Watch() as seen:
            trainer.train_step(inputs, labels)
    assert seen.products == {torch.bfloat16 if numerics == "fast" else torch.float32}
    assert all(p.grad is not None and p.grad.device == p.device for p in trainer.model.parameters())
    assert trainer.sums.device.type == device


@pytest.mark.parametrize("wait", ["sums[0].item()", "sums.tolist()", "sums.cpu()", "sums.nonzero()", "bool(sums[0])"])
def test_a_step_that_waits_is_noticed(wait, gpu, monkeypatch):
    config = cli.typed(composed("optimizer=powersgdm"))
    with FakeTensorMode(), GPU:
        trainer = Trainer(config, GPU, images=200)
        monkeypatch.setattr(
            torch.Tensor, "backward", lambda loss: (gradients(loss, trainer.model), eval(wait, {"sums": trainer.sums}))
        )
        with Watch(), pytest.raises(Waits):
            trainer.train_step(torch.empty(32, 1, 28, 28), torch.empty(32, dtype=torch.int64))
