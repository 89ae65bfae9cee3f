"""Table 1: the direction of each method, checked by a step of the optimizer that the suite uses for it.

The check takes two steps with known gradients and compares the second displacement with the formula, since only the
second step shows sums and averages over the past.
"""

import sys

import torch

from analysis.tables import both
from optimizers import PowerSGD, powerball

from .recipe import Figure

LR, BETA, GAMMA = 0.1, 0.9, 0.4
ALPHA, BETA1, BETA2, EPS = 0.99, 0.9, 0.999, 1e-8  # torch's defaults for RMSprop and Adam
G1 = torch.tensor([0.5, -2.0, 1e-3, 0.0], dtype=torch.float64)
G2 = torch.tensor([-0.25, -1.0, 3e-3, 1e-2], dtype=torch.float64)


def adam_direction():
    mean = (1 - BETA1) * (BETA1 * G1 + G2) / (1 - BETA1**2)
    square = (1 - BETA2) * (BETA2 * G1**2 + G2**2) / (1 - BETA2**2)
    return mean / (square.sqrt() + EPS)


# Method, the paper's direction, the suite's optimizer, and what its second step must be.
ROWS = [
    ("SGD", r"$g$", lambda p: torch.optim.SGD(p, LR), lambda: G2),
    ("SGDM", r"$\langle g \rangle_\beta$", lambda p: torch.optim.SGD(p, LR, momentum=BETA), lambda: BETA * G1 + G2),
    (
        "AdaGrad",
        r"$g / \sqrt{\Sigma(g^2)}$",
        lambda p: torch.optim.Adagrad(p, LR, initial_accumulator_value=0),
        lambda: G2 / ((G1**2 + G2**2).sqrt() + 1e-10),
    ),
    (
        "RMSProp",
        r"$g / \sqrt{\langle g^2 \rangle_\beta}$",
        lambda p: torch.optim.RMSprop(p, LR),
        lambda: G2 / (((1 - ALPHA) * (ALPHA * G1**2 + G2**2)).sqrt() + EPS),
    ),
    (
        "Adam",
        r"$\langle g \rangle_{\beta_1} / \sqrt{\langle g^2 \rangle_{\beta_2}}$",
        lambda p: torch.optim.Adam(p, LR),
        adam_direction,
    ),
    ("PowerSGD", r"$\sigma_\gamma(g)$", lambda p: PowerSGD(p, LR, GAMMA), lambda: powerball(G2, GAMMA)),
    (
        "PowerSGDM",
        r"$\langle \sigma_\gamma(g) \rangle_\beta$",
        lambda p: PowerSGD(p, LR, GAMMA, momentum=BETA),
        lambda: BETA * powerball(G1, GAMMA) + powerball(G2, GAMMA),
    ),
]
NOTES = """
The last column is the largest difference between the second step taken with two known gradients and the formula,
relative to the formula. ⟨·⟩_β stands for an exponential average in the paper; SGDM and PowerSGDM *sum*,
v = βv + g, in equation (4), in torch and here: the same but for a factor 1 - β, which the learning rate absorbs.
Adam's averages are corrected for their bias, and RMSProp and Adam add ε = 1e-8 to the root, as torch does.
"""


def make() -> dict:
    rows, worst = [], 0.0
    for method, direction, optimizer_of, expected in ROWS:
        x = torch.nn.Parameter(torch.ones(4, dtype=torch.float64))
        optimizer = optimizer_of([x])
        for gradient in (G1, G2):
            before = x.detach().clone()
            x.grad = gradient.clone()
            optimizer.step()
        step = (before - x.detach()) / LR
        # An element that the formula does not move must not move; the others must agree relatively.
        error = ((step - expected()).abs() / expected().abs().clamp(min=1e-12)).max().item()
        worst = max(worst, error)
        kind = type(optimizer)
        rows.append([method, direction, f"{kind.__module__.split('.')[0]} {kind.__name__}", f"{error:.1e}"])
    header = ["method", "direction", "optimizer", "difference"]
    if worst > 1e-6:
        sys.exit("error: an optimizer does not take the step that Table 1 states")
    return both("table1", "Table 1: first-order stochastic optimization methods", header, rows, NOTES)


FIGURES = {"table1": Figure(__doc__, make)}
