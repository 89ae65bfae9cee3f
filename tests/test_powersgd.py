"""PowerSGD: the Powerball function, the update rules, and what torch.optim's users take for granted."""

import ast
import copy
import itertools
import math
import pickle
import shutil
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from optimizers import PowerSGD, powerball, powersgd

GAMMAS = (0, 0.1, 0.4, 0.5, 0.75, 0.9, 1)
INF_BITS = 0x7F800000


@pytest.fixture(autouse=True)
def _quiet_torch():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def exact_power(g, gamma):
    """The Powerball function in float64, where every float32 denormal is a normal number."""
    g = g.double()
    return torch.sign(g) * g.abs() ** gamma


def leaf(*values, dtype=torch.float64, grad=None):
    p = nn.Parameter(torch.tensor(values, dtype=dtype))
    p.grad = None if grad is None else torch.tensor(grad, dtype=dtype)
    return p


def twins(shapes, **kwargs):
    """Two lists of equal, separate parameters."""
    one = [nn.Parameter(torch.randn(shape, **kwargs)) for shape in shapes]
    return one, [nn.Parameter(p.detach().clone()) for p in one]


def set_grads(*param_lists):
    """The same new random gradients for every list."""
    for same in zip(*param_lists, strict=True):
        g = torch.randn_like(same[0])
        for p in same:
            p.grad = g.clone()


def train(opt, params, steps, seed):
    torch.manual_seed(seed)
    for _ in range(steps):
        set_grads(params)
        opt.step()


def same_bits(one, two):
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


# The Powerball function


@pytest.mark.parametrize(
    "gamma, g, expected",
    [
        (0.5, [4, -9, 0.25, 0], [2, -3, 0.5, 0]),
        (0.25, [16, -81, 0.0625, 0], [2, -3, 0.5, 0]),
        (0.75, [16, -81, 0.0625, 0], [8, -27, 0.125, 0]),
        (0.4, [32, -243, 1, 0], [4, -9, 1, 0]),
        (0, [32, -1e-30, 1e-45, 0], [1, -1, 1, 0]),
        (1, [32, -1e-30, 1e-45, 0], [32, -1e-30, 1e-45, 0]),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_powerball_by_hand(gamma, g, expected, dtype):
    result = powerball(torch.tensor(g, dtype=dtype), gamma)
    torch.testing.assert_close(result, torch.tensor(expected, dtype=dtype), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_powerball_special_values(gamma, dtype):
    inf, nan, denormal = math.inf, math.nan, torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    g = torch.tensor([0.0, -0.0, inf, -inf, nan, denormal, -denormal, 1.0, -1.0], dtype=dtype)
    before = g.clone()
    result = powerball(g, gamma)
    end, small = 1 if gamma == 0 else inf, exact_power(g[5], gamma).to(dtype).item()
    expected = torch.tensor([0, 0, end, -end, nan, small, -small, 1, -1], dtype=dtype)
    tolerance = max(1e-5, torch.finfo(dtype).eps)
    torch.testing.assert_close(result, expected, rtol=tolerance, atol=0, equal_nan=True)
    assert torch.equal(g.nan_to_num(7), before.nan_to_num(7)), "the input has changed"


@pytest.mark.parametrize("gamma", GAMMAS)
def test_powerball_is_odd_and_keeps_shape_dtype_and_input(gamma):
    g = torch.randn(37, 11) * torch.logspace(-30, 30, 11)
    before = g.clone()
    result = powerball(g, gamma)
    assert torch.equal(powerball(-g, gamma), -result)
    assert result.shape == g.shape and result.dtype == g.dtype and torch.equal(g, before)
    for view in (g.t(), g[:, ::3], g[0, 0], g[:0], g[:1].expand(5, 11)):
        exact = exact_power(view, gamma).float()
        torch.testing.assert_close(powerball(view, gamma), exact, rtol=1e-5, atol=0)


def assert_within_1e_5(bits, gamma):
    g = bits.view(torch.float32)
    exact = exact_power(g, gamma)
    # No denormal result can be promised to be nearer than half of the smallest denormal.
    rounding = (exact < 2.0**-126).double() * 2.0**-150
    result = powerball(g, gamma)
    excess = (result - exact).abs_().sub_(exact * 1e-5 + rounding)
    worst = excess.argmax()
    assert excess[worst] <= 0, f"sigma({g[worst]:.9g}) = {result[worst]:.9g}, exactly {exact[worst]:.9g}"


@pytest.mark.parametrize("gamma", GAMMAS)
def test_powerball_float32_within_1e_5(gamma):
    # The first denormals one by one, the rest by a step that has no factor in common with the mantissa.
    few = torch.arange(50_000, dtype=torch.int32)
    assert_within_1e_5(torch.cat([few, torch.arange(0, INF_BITS, 4099, dtype=torch.int32)]), gamma)


@pytest.mark.slow
@pytest.mark.parametrize("gamma", [0.4, 0.9])
def test_powerball_every_positive_float32(gamma):
    chunk = 1 << 22
    for start in range(0, INF_BITS, chunk):
        assert_within_1e_5(torch.arange(start, min(start + chunk, INF_BITS), dtype=torch.int32), gamma)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_powerball_every_half_precision_value(dtype, gamma):
    g = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype)
    g = g[g.isfinite()]
    exact = exact_power(g, gamma)
    info = torch.finfo(dtype)
    error = (powerball(g, gamma).double() - exact).abs()
    # Half a unit in the last place for the rounding, and 1e-5 of the value for the power.
    unit = torch.exp2(exact.abs().clamp(min=info.smallest_normal).log2().floor()) * info.eps
    excess = error - 0.5 * unit - 1e-5 * exact.abs()
    worst = excess.argmax()
    assert excess[worst] <= 0, f"sigma({g[worst]}) is off by {error[worst] / unit[worst]:.2f} ulp"


@pytest.mark.parametrize("gamma", GAMMAS)
def test_powerball_float64(gamma):
    g = torch.randn(1000, dtype=torch.float64) * torch.logspace(-320, 300, 1000, dtype=torch.float64)
    torch.testing.assert_close(powerball(g, gamma), exact_power(g, gamma), rtol=1e-14, atol=0)


# The update rules, by hand


def test_equation_3_without_momentum():
    p = leaf(1.0, 2.0, -3.0)
    opt = PowerSGD([p], lr=0.1, gamma=0.5)
    p.grad = leaf(4.0, -9.0, 0.0).data
    opt.step()
    assert p.tolist() == pytest.approx([1 - 0.2, 2 + 0.3, -3])
    opt.param_groups[0]["lr"] = 0.01
    p.grad = leaf(0.25, 0.0, 1.0).data
    opt.step()
    assert p.tolist() == pytest.approx([0.8 - 0.005, 2.3, -3 - 0.01])


@pytest.mark.parametrize(
    "lr_in_velocity, velocities, weights",
    [
        # v = 0.5 v - lr d, x = x + v: the tenfold drop leaves the first step in v as it was.
        (True, [-0.2, -0.5 * 0.2 - 0.01 * 3, -0.5 * 0.13 - 0.01 * 0], [0.8, 0.67, 0.605]),
        # v = 0.5 v + d, x = x - lr v: the drop also scales the first step.
        (False, [2, 0.5 * 2 + 3, 0.5 * 4 + 0], [0.8, 0.76, 0.74]),
    ],
)
@pytest.mark.parametrize("foreach", [False, True])
def test_equation_4_when_lr_drops(lr_in_velocity, velocities, weights, foreach):
    p = leaf(1.0)
    opt = PowerSGD([p], lr=0.1, gamma=0.5, momentum=0.5, lr_in_velocity=lr_in_velocity, foreach=foreach)
    for lr, g, v, x in zip([0.1, 0.01, 0.01], [4.0, 9.0, 0.0], velocities, weights, strict=True):
        opt.param_groups[0]["lr"] = lr
        p.grad = leaf(g).data
        opt.step()
        assert opt.state[p]["velocity"].item() == pytest.approx(v)
        assert p.item() == pytest.approx(x)


@pytest.mark.parametrize(
    "decay_after_power, maximize, g, d",
    [
        (True, False, 4.0, 2 + 5),  # sqrt(4) + 0.5 * 10
        (False, False, 4.0, 3),  # sqrt(4 + 0.5 * 10)
        (True, True, 4.0, -2 + 5),
        (False, True, 4.0, 1),  # sqrt(-4 + 0.5 * 10)
        (True, True, -4.0, 2 + 5),
        (False, True, -4.0, 3),
    ],
)
@pytest.mark.parametrize("foreach", [False, True])
def test_decay_and_maximize(decay_after_power, maximize, g, d, foreach):
    p = leaf(10.0, grad=[g])
    flags = {"decay_after_power": decay_after_power, "maximize": maximize, "foreach": foreach}
    PowerSGD([p], lr=0.1, gamma=0.5, weight_decay=0.5, **flags).step()
    assert p.item() == pytest.approx(10 - 0.1 * d)
    assert p.grad.item() == g, "the gradient has changed"


# The same trajectory as a plain reference


def reference_step(weights, grads, velocities, lr, gamma, momentum, decay, inside, after, maximize):
    """The docstring's pseudo-code on lists of tensors, out of place."""
    for i, g in enumerate(grads):
        if g is None:
            continue
        if maximize:
            g = -g
        if not after:
            g = g + decay * weights[i]
        d = torch.sign(g) * g.abs() ** gamma
        if after:
            d = d + decay * weights[i]
        if inside:
            velocities[i] = momentum * velocities[i] - lr * d
            weights[i] = weights[i] + velocities[i]
        else:
            velocities[i] = momentum * velocities[i] + d
            weights[i] = weights[i] - lr * velocities[i]


FLAGS = ("gamma", "momentum", "decay", "inside", "after", "maximize")
BOTH = (False, True)
COMBINATIONS = list(itertools.product((0, 0.4, 0.5, 1), (0, 0.9), (0, 0.1), BOTH, BOTH, BOTH))
BLOCK = 64  # instead of 65536, so that several blocks cost little
# 0-dim, channels_last (made so below) with rows longer than a block, without gradient, 3 blocks, long rows
SHAPES = [(), (3, 12, 3, 2), (7,), (2 * BLOCK + 13,), (2, BLOCK + 7)]
WITHOUT_GRADIENT = 2


def random_grads(dtype):
    """Float64: with zeros. Float32: at least 0.5: sigma's slope at 0 would turn rounding into a step."""
    for shape in SHAPES:
        g = torch.randn(shape, dtype=torch.float64)
        yield (g * (torch.rand(shape) > 0.1) if dtype == torch.float64 else g + 0.5 * g.sign()).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(FLAGS, COMBINATIONS)
def test_parity_over_100_steps(monkeypatch, dtype, gamma, momentum, decay, inside, after, maximize):
    monkeypatch.setattr(powersgd, "BLOCK", BLOCK)
    start = [torch.randn(shape, dtype=dtype) for shape in SHAPES]
    start[1] = start[1].to(memory_format=torch.channels_last)
    # One reference serves the loop and the multi-tensor kernels, lr as a number and as a tensor.
    variants = []
    for foreach, tensor_lr in itertools.product(BOTH, BOTH):
        params = [nn.Parameter(w.clone()) for w in start]
        opt = PowerSGD(
            [{"params": []}, {"params": params[:2]}, {"params": params[2:]}],
            lr=torch.tensor(0.01, dtype=dtype) if tensor_lr else 0.01,
            gamma=gamma,
            momentum=momentum,
            weight_decay=decay,
            lr_in_velocity=inside,
            decay_after_power=after,
            maximize=maximize,
            foreach=foreach,
        )
        variants.append((params, opt))

    weights, velocities = [w.double() for w in start], [0.0] * len(start)
    for step in range(100):
        lr = 0.01 if step < 50 else 0.002
        grads = list(random_grads(dtype))
        grads[WITHOUT_GRADIENT] = None
        wide = [None if g is None else g.double() for g in grads]
        reference_step(weights, wide, velocities, lr, gamma, momentum, decay, inside, after, maximize)
        for params, opt in variants:
            for group in opt.param_groups:
                group["lr"] = group["lr"].fill_(lr) if isinstance(group["lr"], torch.Tensor) else lr
            for p, g in zip(params, grads, strict=True):
                p.grad = g
            opt.step()

    tolerance = {"rtol": 1e-11, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-5}
    for params, opt in variants:
        assert torch.equal(params[WITHOUT_GRADIENT], start[WITHOUT_GRADIENT])
        for i, p in enumerate(params):
            torch.testing.assert_close(p.double(), weights[i], **tolerance)
            if momentum and i != WITHOUT_GRADIENT:
                velocity = opt.state[p]["velocity"]
                torch.testing.assert_close(velocity.double(), velocities[i], **tolerance)
                assert velocity.stride() == p.stride()
            else:
                assert p not in opt.state


@pytest.mark.parametrize("momentum", [0, 0.9])
@pytest.mark.parametrize("gamma", [0, 0.4, 0.5])
@pytest.mark.parametrize("shape", [(200_003,), (3, 70_001), (1000, 7, 5, 5), (1, 100_000)])
def test_blocks_of_the_real_size(monkeypatch, shape, gamma, momentum):
    one, two = twins([shape])
    set_grads(one, two)
    flags = {"gamma": gamma, "momentum": momentum, "weight_decay": 0.1}
    PowerSGD(one, **flags).step()
    monkeypatch.setattr(powersgd, "BLOCK", one[0].numel())
    PowerSGD(two, **flags).step()
    # Not the same bits: torch's kernels treat a tensor's last few elements apart.
    torch.testing.assert_close(one[0], two[0], rtol=1e-6, atol=1e-7)


def test_blocks_of_a_velocity_with_another_layout():
    """As a state dict may bring it: rows of matching elements then, not a flat view."""
    one, two = twins([(3, 70_001)])
    optimizers = [PowerSGD(params, gamma=0.4, momentum=0.9) for params in (one, two)]
    for _ in range(2):
        set_grads(one, two)
        for optimizer in optimizers:
            optimizer.step()
        state = optimizers[0].state[one[0]]
        state["velocity"] = state["velocity"].t().contiguous().t()
    torch.testing.assert_close(one[0], two[0], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_multi_tensor_kernels_apply_the_same_function(gamma, dtype):
    """What `powerball` gives: in half precision bit for bit, and at 0, inf and nan."""
    g = torch.tensor([2.0, -0.3, 0.0, math.inf, -math.inf, math.nan], dtype=dtype)
    p = nn.Parameter(torch.zeros_like(g))
    p.grad = g.clone()
    PowerSGD([p], lr=1.0, gamma=gamma, foreach=True).step()
    tolerance = 1e-5 if dtype == torch.float32 else 0
    torch.testing.assert_close(-p.detach(), powerball(g, gamma), rtol=tolerance, atol=0, equal_nan=True)


@pytest.mark.parametrize(("gamma", "kernel"), [(0.4, "_foreach_pow_"), (0.5, "_foreach_sqrt_")])
def test_multi_tensor_kernels_are_one_launch_for_all_parameters(gamma, kernel, monkeypatch):
    launched = []
    for name in ("_foreach_pow_", "_foreach_sqrt_"):
        function = getattr(torch, name)
        monkeypatch.setattr(torch, name, lambda *a, n=name, f=function: (launched.append(n), f(*a))[1])
    monkeypatch.setattr(powersgd, "powerball", lambda *_: pytest.fail("a parameter at a time"))
    params, _ = twins([(5, 7), (3,), ()])
    set_grads(params)
    PowerSGD(params, gamma=gamma, foreach=True).step()
    assert launched == [kernel]


@pytest.mark.parametrize(("momentum", "inside"), [(0, True), (0, False), (0.9, False)])
@pytest.mark.parametrize(("decay", "after", "maximize"), list(itertools.product((0, 0.1), BOTH, BOTH)))
@pytest.mark.parametrize(("foreach", "tensor_lr"), list(itertools.product(BOTH, BOTH)))
def test_gamma_1_is_sgd_bit_for_bit(momentum, inside, decay, after, maximize, foreach, tensor_lr):
    ours, theirs = twins([(), (130,), (40, 30)])
    lr = torch.tensor(0.1) if tensor_lr else 0.1
    common = {"lr": lr, "momentum": momentum, "weight_decay": decay, "maximize": maximize, "foreach": foreach}
    opt = PowerSGD(ours, gamma=1, lr_in_velocity=inside, decay_after_power=after, **common)
    sgd = torch.optim.SGD(theirs, **common)
    for _ in range(20):
        set_grads(ours, theirs)
        opt.step()
        sgd.step()
    assert same_bits(ours, theirs)


# What torch.optim's users take for granted


def test_no_state_without_momentum():
    params, _ = twins([(3,), (2, 2)])
    opt = PowerSGD(params, gamma=0.5, weight_decay=0.1)
    train(opt, params, 3, seed=1)
    assert len(opt.state) == 0 and opt.state_dict()["state"] == {}


def through_file(opt, params, path):
    torch.save({"weights": params, "opt": opt.state_dict()}, path)
    saved = torch.load(path, weights_only=True)
    params = [nn.Parameter(w.detach()) for w in saved["weights"]]
    # All settings must come from the file, so the new optimizer starts with others.
    new = PowerSGD([{"params": params[:1]}, {"params": params[1:]}], lr=9.0, gamma=0.9)
    new.load_state_dict(saved["opt"])
    return new, params


def through_deepcopy(opt, params, path):
    return copy.deepcopy((opt, params))


def through_pickle(opt, params, path):
    return pickle.loads(pickle.dumps((opt, params)))


@pytest.mark.parametrize("way", [through_file, through_deepcopy, through_pickle])
@pytest.mark.parametrize("tensor_lr", BOTH)
@pytest.mark.parametrize("momentum", [0, 0.9])
def test_continues_bit_for_bit(way, tensor_lr, momentum, tmp_path):
    params, _ = twins([(3, 5), (7,)])
    groups = [{"params": params[:1]}, {"params": params[1:], "gamma": 0.5}]
    lr = torch.tensor(0.1) if tensor_lr else 0.1
    opt = PowerSGD(groups, lr=lr, gamma=0.4, momentum=momentum, weight_decay=0.1, lr_in_velocity=False)
    train(opt, params, 5, seed=1)
    other, other_params = way(opt, params, tmp_path / "state.pt")
    at_copy = [p.detach().clone() for p in params]

    train(other, other_params, 5, seed=2)
    assert same_bits(params, at_copy), "the copy steps the original's weights"
    train(opt, params, 5, seed=2)
    assert same_bits(params, other_params) and not same_bits(params, at_copy)


def test_closure():
    p = leaf(2.0)
    opt = PowerSGD([p], lr=0.1, gamma=0.5)

    def closure():
        opt.zero_grad()
        loss = 2 * p.square().sum() + 1
        loss.backward()
        return loss

    assert opt.step(closure).item() == 9
    assert p.item() == pytest.approx(2 - 0.1 * math.sqrt(8))
    assert opt.step() is None


def test_groups_have_their_own_settings():
    one, two, three = leaf(1.0, grad=[9.0]), leaf(1.0, grad=[9.0]), leaf(1.0, grad=[9.0])
    third = {"params": [three], "lr": 1.0, "maximize": True}
    PowerSGD([{"params": [one]}, {"params": [two], "gamma": 0}, third], lr=0.1, gamma=0.5).step()
    assert [p.item() for p in (one, two, three)] == pytest.approx([0.7, 0.9, 4])


BAD = [
    ("lr", -1e-9),
    ("lr", math.nan),
    ("lr", torch.tensor(-0.1)),
    ("lr", torch.ones(2)),
    ("gamma", -0.01),
    ("gamma", 1.01),
    ("gamma", math.nan),
    ("momentum", -0.1),
    ("momentum", 1.0),
    ("momentum", math.nan),
    ("weight_decay", -1e-9),
    ("weight_decay", math.nan),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_values_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"^{name} must"):
        PowerSGD([leaf(1.0)], **{name: value})


EDGES = [("lr", 0), ("lr", torch.tensor(0.0)), ("gamma", 0), ("gamma", 1), ("momentum", 0.999)]


@pytest.mark.parametrize(("name", "value"), EDGES)
def test_edges_of_the_ranges_are_allowed(name, value):
    p = leaf(1.0, grad=[1.0])
    PowerSGD([p], **{"lr": 0.1, name: value}).step()
    assert p.item() == pytest.approx(1 if name == "lr" else 0.9)


@pytest.mark.parametrize(("name", "value"), [*BAD, ("gamma", None), ("momentum", "0.9"), ("lr", "0.1")])
def test_a_refused_group_leaves_the_optimizer_as_it_was(name, value):
    p, q = leaf(1.0, grad=[4.0]), leaf(1.0, grad=[4.0])
    opt = PowerSGD([p], lr=0.1, gamma=0.5, momentum=0.9)
    with pytest.raises((ValueError, TypeError)):
        opt.add_param_group({"params": [q], name: value})
    assert len(opt.param_groups) == 1
    opt.step()
    assert (p.item(), q.item()) == (pytest.approx(0.8), 1)
    opt.add_param_group({"params": [q], "gamma": 0})
    opt.step()
    assert q.item() == pytest.approx(0.9)


def test_the_defaults_are_the_paper_s_form():
    """Equation (4), and weight decay after the power; lr and gamma as the docstring's signature has them."""
    assert PowerSGD([leaf(1.0)]).defaults == {
        "lr": 0.1, "gamma": 0.8, "momentum": 0.0, "weight_decay": 0.0, "lr_in_velocity": True,
        "decay_after_power": True, "maximize": False, "foreach": None, "fused": False,
    }  # fmt: skip


def test_complex_parameters_are_refused():
    complex_parameter = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    with pytest.raises(ValueError, match=r"real parameters, not for torch\.complex64"):
        PowerSGD([complex_parameter])
    opt = PowerSGD([leaf(1.0)])
    with pytest.raises(ValueError, match="real parameters"):
        opt.add_param_group({"params": [complex_parameter]})
    assert len(opt.param_groups) == 1


@pytest.mark.parametrize("momentum", [0, 0.9])
def test_sparse_gradients_are_refused(momentum):
    layer = nn.Embedding(5, 3, sparse=True)
    before = layer.weight.detach().clone()
    layer(torch.tensor([1, 2])).sum().backward()
    opt = PowerSGD(layer.parameters(), momentum=momentum)
    with pytest.raises(
        RuntimeError, match=r"^PowerSGD does not support sparse gradients; use sparse=False in the layer$"
    ):
        opt.step()
    assert torch.equal(layer.weight, before) and len(opt.state) == 0


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("shape", [(), (1,), (2, 3)])
@pytest.mark.parametrize("lr_shape", [(), (1,)])
def test_lr_tensor_changed_in_place(foreach, shape, lr_shape):
    p = nn.Parameter(torch.ones(shape))
    p.grad = torch.full(shape, 4.0)
    lr = torch.full(lr_shape, 0.1)
    opt = PowerSGD([p], lr=lr, gamma=0.5, foreach=foreach)
    opt.step()
    torch.testing.assert_close(p.data, torch.full(shape, 0.8))
    lr.fill_(0.01)
    opt.step()
    torch.testing.assert_close(p.data, torch.full(shape, 0.78))


@pytest.mark.parametrize("tensor_lr", BOTH)
@pytest.mark.parametrize(
    "make",
    [
        lambda opt: torch.optim.lr_scheduler.StepLR(opt, 3, 0.1),
        lambda opt: torch.optim.lr_scheduler.LambdaLR(opt, lambda epoch: 1 / (1 + epoch)),
        lambda opt: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(opt, 4),
        lambda opt: torch.optim.lr_scheduler.OneCycleLR(opt, 0.5, total_steps=10),  # cycles momentum too
    ],
    ids=["StepLR", "LambdaLR", "CosineAnnealingWarmRestarts", "OneCycleLR"],
)
def test_schedulers(make, tensor_lr):
    ours, theirs = twins([(3, 5)])
    common = {"lr": torch.tensor(0.1) if tensor_lr else 0.1, "momentum": 0.9}
    opt = PowerSGD(ours, gamma=1, lr_in_velocity=False, **common)
    sgd = torch.optim.SGD(theirs, **copy.deepcopy(common))
    schedulers = make(opt), make(sgd)
    for _ in range(10):
        set_grads(ours, theirs)
        for o, s in zip((opt, sgd), schedulers, strict=True):
            o.step()
            if s.last_epoch < 9:
                s.step()
    assert float(opt.param_groups[0]["lr"]) != pytest.approx(0.1)
    assert same_bits(ours, theirs)


# The power acts on the averaged, unscaled, clipped gradient


def regression():
    torch.manual_seed(3)
    model = nn.Linear(6, 4)
    return model, torch.randn(32, 6), torch.randn(32, 4)


def test_accumulated_micro_batches_equal_one_batch():
    whole, x, y = regression()
    parts = copy.deepcopy(whole)
    sum_of_powers = [torch.zeros_like(p) for p in parts.parameters()]
    opt_whole, opt_parts = (PowerSGD(m.parameters(), lr=0.1, gamma=0.4) for m in (whole, parts))

    nn.functional.mse_loss(whole(x), y).backward()
    opt_whole.step()
    start = [p.detach().clone() for p in parts.parameters()]
    for xs, ys in zip(x.chunk(4), y.chunk(4), strict=True):
        loss = nn.functional.mse_loss(parts(xs), ys) / 4
        for total, g in zip(sum_of_powers, torch.autograd.grad(loss, list(parts.parameters())), strict=True):
            total += powerball(g, 0.4)
        nn.functional.mse_loss(parts(xs), ys).div(4).backward()
    opt_parts.step()

    wrong = [s - 0.1 * t for s, t in zip(start, sum_of_powers, strict=True)]
    for a, b, w in zip(whole.parameters(), parts.parameters(), wrong, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
        assert (a - w).abs().max() > 0.05


@pytest.mark.parametrize("gamma", [0, 0.4, 0.5, 1])
def test_grad_scaler(gamma):
    plain, x, y = regression()
    scaled = copy.deepcopy(plain)
    opts = [PowerSGD(m.parameters(), lr=0.01, gamma=gamma, momentum=0.9) for m in (plain, scaled)]
    # A power of two, so that scaling and unscaling lose no bit.
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=1000)
    for _ in range(5):
        for opt in opts:
            opt.zero_grad()
        nn.functional.mse_loss(plain(x), y).backward()
        opts[0].step()
        scaler.scale(nn.functional.mse_loss(scaled(x), y)).backward()
        scaler.step(opts[1])
        scaler.update()
    assert same_bits(plain.parameters(), scaled.parameters())

    before = copy.deepcopy([list(scaled.parameters()), opts[1].state_dict()["state"]])
    opts[1].zero_grad()
    scaler.scale(nn.functional.mse_loss(scaled(x), y)).backward()
    scaled.weight.grad[0, 0] = math.inf
    scaler.step(opts[1])
    scaler.update()
    assert same_bits(scaled.parameters(), before[0]) and scaler.get_scale() == 2.0**9
    for i, state in opts[1].state_dict()["state"].items():
        assert torch.equal(state["velocity"], before[1][i]["velocity"])


def test_clipping_acts_before_the_power():
    p = leaf(0.0, 0.0, grad=[30.0, 40.0])
    opt = PowerSGD([p], lr=1.0, gamma=0.5)
    torch.nn.utils.clip_grad_norm_([p], max_norm=5.0)
    opt.step()
    assert p.tolist() == pytest.approx([-math.sqrt(3), -2], rel=1e-5)


# Compiled, on other devices, in memory


def assert_compiled_equals_eager(backend, gamma, momentum, tensor_lr, foreach):
    torch._dynamo.reset()
    compiled, eager = twins([(5, 7), (3 * BLOCK + 1,)])
    lr = torch.tensor(0.1) if tensor_lr else 0.1
    flags = {"gamma": gamma, "momentum": momentum, "weight_decay": 0.1, "foreach": foreach}
    one, two = PowerSGD(compiled, lr=lr, **flags), PowerSGD(eager, lr=lr, **flags)
    step = torch.compile(one.step, backend=backend)
    for _ in range(3):
        set_grads(compiled, eager)
        step()
        two.step()
    for a, b in zip(compiled, eager, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


# gamma, momentum, tensor_lr, foreach
COMPILED = [(0, 0, False, False), (0.4, 0.9, False, False), (0.4, 0.9, True, False), (0.5, 0.9, True, True)]


@pytest.mark.parametrize(("gamma", "momentum", "tensor_lr", "foreach"), COMPILED)
def test_compiled_step_equals_eager(monkeypatch, gamma, momentum, tensor_lr, foreach):
    monkeypatch.setattr(powersgd, "BLOCK", BLOCK)
    assert_compiled_equals_eager("aot_eager", gamma, momentum, tensor_lr, foreach)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs a C++ compiler")
@pytest.mark.parametrize(("gamma", "momentum", "tensor_lr", "foreach"), COMPILED)
def test_inductor_step_equals_eager(gamma, momentum, tensor_lr, foreach):
    assert_compiled_equals_eager("inductor", gamma, momentum, tensor_lr, foreach)


@pytest.mark.parametrize(("gamma", "momentum"), list(itertools.product((0, 0.4, 0.5, 1), (0, 0.9))))
@pytest.mark.parametrize(("foreach", "tensor_lr"), list(itertools.product(BOTH, BOTH)))
def test_no_value_is_read_on_the_meta_device(gamma, momentum, foreach, tensor_lr):
    """A hidden .item() or .cpu(), a stall on a GPU, is an error here."""
    params = [nn.Parameter(torch.empty(shape, device="meta")) for shape in [(), (300, 300)]]
    for after in BOTH:
        flags = {"momentum": momentum, "weight_decay": 0.1, "decay_after_power": after, "foreach": foreach}
        opt = PowerSGD(params, lr=0.1, gamma=gamma, maximize=True, **flags)
        if tensor_lr:  # later, since the constructor's range check reads it
            opt.param_groups[0]["lr"] = torch.tensor(0.1, device="meta")
        for _ in range(2):
            for p in params:
                p.grad = torch.empty_like(p)
            opt.step()
    assert {p.device.type for p in params} == {"meta"}


@pytest.mark.parametrize("gamma", [0, 0.4, 0.5, 1])
def test_cuda_defaults_to_multi_tensor_kernels(gamma, monkeypatch):
    used = []
    multi_tensor = powersgd._multi_tensor

    def spy(params, *args, **kwargs):
        used.append({p.device.type for p in params})
        multi_tensor(params, *args, **kwargs)

    monkeypatch.setattr(powersgd, "_multi_tensor", spy)
    with FakeTensorMode():  # its tensors claim to be on a GPU, and none is needed
        for device in ("cpu", "cuda"):
            params = [nn.Parameter(torch.randn(5, 7, device=device)) for _ in range(2)]
            set_grads(params)
            PowerSGD(params, gamma=gamma, momentum=0.9, weight_decay=0.1).step()
    assert used == [{"cuda"}]


class Launches(TorchDispatchMode):
    """Counts the operators that compute."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "aten" and not function.is_view:
            self.names.append(str(function))
        return function(*args, **kwargs or {})


@pytest.mark.parametrize(("gamma", "momentum"), list(itertools.product((0, 0.4, 0.5, 1), (0, 0.9))))
@pytest.mark.parametrize("tensor_lr", BOTH)
def test_on_a_gpu_a_step_has_as_many_launches_for_two_parameters_as_for_ten(gamma, momentum, tensor_lr):
    counts = []
    for count in (2, 10):
        with FakeTensorMode():
            params = [nn.Parameter(torch.randn(5, 7, device="cuda")) for _ in range(count)]
            set_grads(params)
            opt = PowerSGD(params, lr=0.1, gamma=gamma, momentum=momentum, weight_decay=0.1)
            opt.step()  # makes the velocities
            if tensor_lr:
                opt.param_groups[0]["lr"] = torch.tensor(0.1, device="cuda")
            with Launches() as launches:
                opt.step()
        counts.append(launches.names)
    assert counts[0] == counts[1] and all("_foreach_" in name for name in counts[0])


def peak_bytes(call):
    """The most that the CPU allocator held at once during call, beyond what it held before."""
    cpu = torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[cpu], profile_memory=True) as profile:
        call()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda e: e.start_ns())
    return max(itertools.accumulate((e.nbytes() for e in events), initial=0))


def test_peak_bytes_sees_temporaries():
    x = torch.ones(1000)
    assert peak_bytes(lambda: x + x.mul(2)) >= 8000
    assert peak_bytes(lambda: x.add_(1)) < 4000


@pytest.mark.parametrize(("momentum", "decay"), list(itertools.product((0, 0.9), (0, 0.1))))
@pytest.mark.parametrize("gamma", [0, 0.4, 0.5, 1])
@pytest.mark.parametrize("shape", [(2_000_000,), (2, 1_000_000)], ids=["flat", "two rows"])
def test_temporary_memory_is_at_most_the_largest_parameter(shape, gamma, momentum, decay):
    """Except under foreach=True, which trades memory for fewer launches."""
    p = nn.Parameter(torch.randn(shape))
    p.grad = torch.randn(shape)
    for inside, after, maximize in itertools.product(BOTH, BOTH, BOTH):
        flags = {"lr_in_velocity": inside, "decay_after_power": after, "maximize": maximize}
        opt = PowerSGD([p], gamma=gamma, momentum=momentum, weight_decay=decay, **flags)
        opt.step()  # the velocities, made here, stay
        assert peak_bytes(opt.step) <= p.nbytes + 1024, flags


def test_the_file_needs_only_torch():
    tree = ast.parse(Path(powersgd.__file__).read_text())
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." * node.level + (node.module or ""))
    assert {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) == {"torch"}


@pytest.mark.parametrize("lacking", ["foreach", "maximize", "decay_after_power"])
def test_a_state_dict_from_before_an_option_loads(lacking):
    x = torch.nn.Parameter(torch.ones(3))
    old, new = (PowerSGD([x], lr=0.1, momentum=0.9, weight_decay=0.1) for _ in range(2))
    x.grad = torch.ones(3)
    old.step()
    saved = old.state_dict()
    for group in saved["param_groups"]:
        del group[lacking]
    new.load_state_dict(saved)
    new.step()
    assert new.param_groups[0][lacking] == new.defaults[lacking]
    assert set(new.param_groups[0]) == set(old.param_groups[0]) | {lacking}


def test_the_fused_update_is_handed_all_of_the_loop_s_arguments(monkeypatch):
    """lr as a tensor on the parameters' device, so that a schedule compiles nothing anew."""
    given = []
    monkeypatch.setattr(powersgd, "_compiled", lambda: lambda *lists, **options: given.append((lists, options)))
    params, grads, velocities = ([torch.ones(2, device="meta")] for _ in range(3))
    for lr in (0.1, torch.tensor(0.1)):
        powersgd._fused(params, grads, velocities, lr=lr, gamma=0.5)
    (first, options), (second, kept) = given
    for lists in (first, second):
        assert lists[0] is params and lists[1] is grads and lists[2] is velocities
    assert options["lr"].shape == () and options["lr"].device.type == "meta" and options["gamma"] == 0.5
    assert kept["lr"] is lr
    powersgd._fused([torch.ones(2)], grads, velocities, lr=0.25)
    assert given[2][1]["lr"] == 0.25


@pytest.mark.slow
@pytest.mark.timeout(300)  # compiles
def test_the_fused_update_is_that_of_the_loop_in_five_passes_over_memory(monkeypatch):
    """Compiled for the CPU, where the loop is the specification; a pass reads or writes every parameter once."""
    from torch._inductor import compile_fx, config, metrics

    monkeypatch.setattr(compile_fx.inductor_metrics_log, "isEnabledFor", lambda level: True)  # else nothing is counted
    monkeypatch.setattr(config, "force_disable_caches", True)  # what comes from a cache is not counted
    torch._dynamo.reset()
    torch.manual_seed(0)
    shapes = [(64, 32, 3, 3), (64,), (1000, 64)]
    options = {"momentum": 0.9, "weight_decay": 5e-4, "lr_in_velocity": True, "decay_after_power": True}
    for gamma in (0.0, 0.4, 0.5, 1.0):
        ours = [torch.randn(shape) for shape in shapes]
        theirs = [x.clone() for x in ours]
        velocities = [[torch.zeros_like(x) for x in ours] for _ in range(2)]
        metrics.reset()
        for step in range(5):
            grads = [torch.randn(shape) for shape in shapes]
            lr = 0.1 / (1 + step)  # as a schedule changes it
            powersgd._fused(ours, grads, velocities[0], lr=lr, gamma=gamma, maximize=False, **options)
            powersgd._single_tensor(theirs, grads, velocities[1], lr=lr, gamma=gamma, maximize=False, **options)
        for one, other in zip([*ours, *velocities[0]], [*theirs, *velocities[1]], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
        size = sum(4 * x.numel() for x in ours)
        assert 4.9 < metrics.num_bytes_accessed / size < 5.1, gamma
