"""The proofs' step size on the 13-layer ReLU network of figure 2, compared with tuned constant ones.

No theorem covers this case: the gradient of a ReLU network has no Lipschitz constant on all of R^n. L is estimated at
x_1 as the largest absolute eigenvalue of the Hessian, by the power method on Hessian-vector products. A multiple of
that estimate is tuned over as many values as the constant step. Settings are chosen with one seed and reported with
others.
"""

import itertools
import math
import statistics

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from data import mnist
from data.tensors import TensorDataset, balanced_subset, derived_seed
from models.mlp import MLP
from optimizers import PowerSGD
from optimizers.theorem import TheoremPowerSGD

from .settings import Theory

POINTS = 20  # of a curve


def dataset(data_dir: str) -> TensorDataset:
    images, labels = mnist.load(data_dir, train=True)
    return TensorDataset(images, labels, num_classes=10, mean=(0.0,), std=(1.0,))


def sample(data: TensorDataset, count: int) -> tuple[Tensor, Tensor]:
    """The images and labels for the estimate of L and the reported loss; the same for every run."""
    chosen = balanced_subset(data.labels, count, 10)
    return data.normalised(data.images[chosen]), data.labels[chosen]


def network(seed: int) -> MLP:
    torch.manual_seed(derived_seed(seed, "weights"))
    return MLP(depth=13)


def estimate_lipschitz(model: nn.Module, images: Tensor, labels: Tensor, iterations: int) -> float:
    """A lower estimate of the largest |eigenvalue| of the mean cross-entropy's Hessian, by the power method."""
    params = list(model.parameters())
    grads = torch.autograd.grad(cross_entropy(model(images), labels), params, create_graph=True)
    draw = torch.Generator().manual_seed(0)
    v = [torch.randn(p.shape, generator=draw) for p in params]
    size = 0.0
    for _ in range(iterations):
        norm = math.sqrt(sum(float(part.square().sum()) for part in v))
        if norm == 0:
            return 0.0
        v = [part / norm for part in v]
        v = torch.autograd.grad(grads, params, grad_outputs=v, retain_graph=True)
        size = math.sqrt(sum(float(part.square().sum()) for part in v))
    return size


def train(data: TensorDataset, shown: tuple[Tensor, Tensor], lipschitz: float, settings: Theory, *, gamma: float,
          rule: str, value: float, seed: int) -> list[dict]:  # fmt: skip
    """The rows of one run's curve, which ends if the loss is not finite.

    rule: "constant", value its learning rate; or "adaptive", value the multiple of `lipschitz` taken for L.
    """
    steps = settings.mnist.steps
    model = network(seed)
    if rule == "adaptive":
        optimizer = TheoremPowerSGD(model.parameters(), value * lipschitz, gamma)
    else:
        optimizer = PowerSGD(model.parameters(), lr=value, gamma=gamma)
    at = {"gamma": float(gamma), "rule": rule, "value": value, "seed": seed, "lipschitz": lipschitz}
    rows = []
    batches = itertools.chain.from_iterable(data.epoch(seed, epoch, settings.mnist.batch) for epoch in range(steps))
    for step in range(steps + 1):
        if step % max(1, steps // POINTS) == 0:
            with torch.no_grad():
                loss = float(cross_entropy(model(shown[0]), shown[1]))
            lr = float(optimizer.param_groups[0]["lr"]) if step else None
            rows.append(at | {"step_number": step, "loss": loss, "lr": lr})
            if not math.isfinite(loss):
                break
        if step < steps:
            images, labels = next(batches)
            optimizer.zero_grad()
            cross_entropy(model(images), labels).backward()
            optimizer.step()
    end = None
    if seed != settings.mnist.tuning_seed and math.isfinite(rows[-1]["loss"]):
        end = estimate_lipschitz(model, *shown, settings.mnist.iterations)
    return [row | {"lipschitz_end": end} for row in rows]


def compare(gamma: float, settings: Theory) -> list[dict]:
    """For one gamma: the tuning runs; then, with the other seeds, the chosen settings and the untuned estimate of L."""
    data = dataset(settings.data_dir)
    shown = sample(data, settings.mnist.images)
    seeds = [settings.mnist.tuning_seed, *settings.mnist.seeds]
    lipschitz = {seed: estimate_lipschitz(network(seed), *shown, settings.mnist.iterations) for seed in seeds}

    def run(rule: str, value: float, seed: int, use: str) -> list[dict]:
        curve = train(data, shown, lipschitz[seed], settings, gamma=gamma, rule=rule, value=value, seed=seed)
        return [{"use": use} | row for row in curve]

    rows, chosen = [], [("adaptive", 1.0, "as estimated")]
    for rule, values in (("constant", settings.mnist.lrs), ("adaptive", settings.mnist.multiples)):
        tried = {value: run(rule, value, settings.mnist.tuning_seed, "tuning") for value in values}
        rows += [row for curve in tried.values() for row in curve]
        chosen.append((rule, min(tried, key=lambda value: final_loss(tried[value])), "tuned"))
    for rule, value, use in chosen:
        rows += [row for seed in settings.mnist.seeds for row in run(rule, value, seed, use)]
    return rows


def final_loss(curve: list[dict]) -> float:
    """The mean loss over the last quarter of a curve, since single losses fluctuate; inf if it diverged."""
    if not math.isfinite(curve[-1]["loss"]):
        return math.inf
    losses = [row["loss"] for row in curve]
    return statistics.mean(losses[-max(1, len(losses) // 4) :])
