"""Launches and passes over memory of an optimizer's step with multi-tensor kernels.

    python -m benchmarks.optimizer_passes [--json FILE]

A pass reads or writes every parameter once. Passes are counted from the operators of a step on fake GPU tensors: each
list that an operator takes is read, and its result or the list it changes is written. Nothing is computed or timed.
"""

import itertools

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import timing
from optimizers import PowerSGD


class Count(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.launches = self.passes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "aten" and not func.is_view:
            self.launches += 1
            self.passes += 1 + sum(isinstance(x, list) and isinstance(x[0], Tensor) for x in args)
        return func(*args, **kwargs or {})


def counted(make, tensor_lr: bool) -> tuple[int, int]:
    with FakeTensorMode():
        params = [nn.Parameter(torch.randn(5, 7, device="cuda")) for _ in range(3)]
        for p in params:
            p.grad = torch.randn_like(p)
        optimizer = make(params)
        optimizer.step()  # makes the state
        if tensor_lr:
            optimizer.param_groups[0]["lr"] = torch.tensor(0.1, device="cuda")
        with Count() as count:
            optimizer.step()
    return count.launches, count.passes


def main() -> None:
    arguments = timing.parser(__doc__).parse_args()
    cases, kinds = {}, ("float", "tensor")
    for momentum, decay in itertools.product((0, 0.9), (0, 5e-4)):
        for gamma in (0, 0.4, 0.5, 1):
            for tensor_lr in (False, True):
                name = f"PowerSGD, gamma {gamma}, momentum {momentum}, decay {decay}, lr {kinds[tensor_lr]}"
                found = counted(lambda p, g=gamma, m=momentum, d=decay: PowerSGD(p, 0.1, g, m, d), tensor_lr)
                cases[name] = {"launches": found[0], "passes": found[1]}
        found = counted(lambda p, m=momentum, d=decay: torch.optim.SGD(p, 0.1, m, weight_decay=d, foreach=True), False)
        cases[f"SGD, momentum {momentum}, decay {decay}, lr float"] = {"launches": found[0], "passes": found[1]}
    for name, case in cases.items():
        print(f"{name:60} {case['launches']:3} launches {case['passes']:3} passes")
    timing.write_json(arguments.json, cases, benchmark="optimizer_passes")


if __name__ == "__main__":
    main()
