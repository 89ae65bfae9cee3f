"""How large must a batch be? The mean of sigma(g_B) compared with sigma(grad f), along the path of figure 2's PowerSGD.

The theorems use batches of T, the experiments batches of 128. Since sigma is not linear, E sigma(g_B) is not
sigma(grad f); for each batch size, the cosine of the two and the ratio of their lengths are measured. Both are 1 at
gamma = 1, the control.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector

from data.tensors import TensorDataset, generator
from optimizers import PowerSGD, powerball

from .mnist import dataset, network
from .settings import Theory

PART = 10_000  # images in a forward pass


def compare(seed: int, settings: Theory) -> list[dict]:
    """A row for each point of one seed's path, each gamma and batch size."""
    ask = settings.batch
    data = dataset(settings.data_dir)
    model = network(seed)
    optimizer = PowerSGD(model.parameters(), lr=ask.lr, gamma=ask.path_gamma)
    rows = []
    for epoch in range(1 + max(ask.epochs)):
        if epoch in ask.epochs:
            rows += [{"seed": seed, "epoch": epoch} | row for row in at_point(model, data, seed, epoch, settings)]
        for images, labels in data.epoch(seed, epoch, 128) if epoch < max(ask.epochs) else ():
            optimizer.zero_grad()
            cross_entropy(model(images), labels).backward()
            optimizer.step()
    return rows


def at_point(model: nn.Module, data: TensorDataset, seed: int, epoch: int, settings: Theory) -> list[dict]:
    """The rows for one point; batches are drawn with replacement, as the calls of assumption 3.2's oracle are."""
    ask = settings.batch
    whole = gradient(model, data, torch.arange(len(data)))
    rows = []
    for size in ask.sizes:
        draws = max(1, min(ask.draws, ask.images // size))
        draw = generator(seed, "batch", epoch, size)
        halves = torch.zeros(2, len(ask.gammas), len(whole))
        for half in halves:
            for _ in range(draws):
                g = gradient(model, data, torch.randint(len(data), (size,), generator=draw))
                for total, gamma in zip(half, ask.gammas, strict=True):
                    total += powerball(g, gamma) / draws
        for place, gamma in enumerate(ask.gammas):
            one, other = halves[:, place]
            cosine, length = agreement(one, other, powerball(whole, gamma))
            rows.append({"gamma": float(gamma), "batch": size, "cosine": cosine, "length": length})
    return rows


def agreement(one: Tensor, other: Tensor, true: Tensor) -> tuple[float, float]:
    """Cosine of E m and `true`, and |E m| / |true|, from two independent means `one` and `other` of m.

    |E m|^2 is estimated by their inner product, which noise does not increase; nan if that is not positive.
    """
    one, other, true = one.double(), other.double(), true.double()
    square, norm = one @ other, true.norm()
    if not (square > 0 and norm > 0):
        return float("nan"), float("nan")
    return float((one + other) @ true / 2 / (square.sqrt() * norm)), float(square.sqrt() / norm)


def gradient(model: nn.Module, data: TensorDataset, chosen: Tensor) -> Tensor:
    """The gradient of the mean loss of these images, as one vector."""
    model.zero_grad()
    for part in chosen.split(PART):
        loss = cross_entropy(model(data.normalised(data.images[part])), data.labels[part], reduction="sum")
        (loss / len(chosen)).backward()
    return parameters_to_vector([p.grad for p in model.parameters() if p.grad is not None])
