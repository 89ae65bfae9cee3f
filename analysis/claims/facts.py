"""Claims that need no run: about the optimizer itself, and those that no experiment can test."""

from typing import Literal

from analysis.verdicts import NOT_REPRODUCED, NOT_TESTABLE, REPRODUCED

from .schema import Claim, Finding


class NoExtraMemory(Claim):
    """After a step, the optimizers hold no more state than torch's SGD with the same momentum."""

    test: Literal["no_extra_memory"]

    def judge(self, archive):
        import torch  # here, as a plan reads all claims but needs no torch, which takes seconds to import

        from optimizers import PowerSGD

        sizes = {}
        for name, make in {
            "SGD": lambda p: torch.optim.SGD(p, 0.1),
            "PowerSGD": lambda p: PowerSGD(p, 0.1, 0.5),
            "SGDM": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
            "PowerSGDM": lambda p: PowerSGD(p, 0.1, 0.5, momentum=0.9),
        }.items():
            x = torch.nn.Parameter(torch.ones(1000))
            x.grad = torch.ones(1000)
            optimizer = make([x])
            optimizer.step()
            states = [v for state in optimizer.state.values() for v in state.values() if torch.is_tensor(v)]
            sizes[name] = sum(value.numel() for value in states)
        holds = sizes["PowerSGD"] <= sizes["SGD"] and sizes["PowerSGDM"] <= sizes["SGDM"]
        text = "numbers of state for 1000 parameters: " + ", ".join(f"{name} {size}" for name, size in sizes.items())
        return Finding(REPRODUCED if holds else NOT_REPRODUCED, text)


class LargerNearZero(Claim):
    """For gamma below 1 the amplification |sigma(g)| / |g| falls as |g| grows over thirteen decades."""

    test: Literal["larger_near_zero"]

    def judge(self, archive):
        import torch

        from optimizers import powerball

        sizes = torch.logspace(-12, 1, 1000, dtype=torch.float64)
        gammas = [0.0, 0.2, 0.4, 0.6, 0.8]
        falls = [bool(((powerball(sizes, gamma) / sizes).diff() < 0).all()) for gamma in gammas]
        text = f"falls from |g| 1e-12 to 10 at {sum(falls)} of {len(gammas)} gammas, from the function that steps"
        return Finding(REPRODUCED if all(falls) else NOT_REPRODUCED, text)


class Untestable(Claim):
    """A claim that no experiment can test."""

    test: Literal["untestable"]
    reason: str

    def judge(self, archive):
        return Finding(NOT_TESTABLE, self.reason)


Kind = NoExtraMemory | LargerNearZero | Untestable
