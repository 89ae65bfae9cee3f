"""TheoremPowerSGD: the step size of the proofs inside the optimizer."""

import ast
import copy
import io
import math
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from optimizers import PowerSGD, powerball
from optimizers.theorem import TheoremPowerSGD, adaptive_step

GAMMAS = (0.0, 0.25, 0.4, 0.5, 0.75, 1.0)
vectors = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=8)


@pytest.fixture(autouse=True)
def _quiet_torch():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def parameter(*values, grad=None, dtype=torch.float64):
    p = nn.Parameter(torch.tensor(values, dtype=dtype))
    p.grad = None if grad is None else torch.tensor(grad, dtype=dtype)
    return p


def formula(g, lipschitz, gamma, beta=0.0):
    """alpha_t as the supplement prints it, 0/0 read as 0."""
    powered = torch.sign(g) * g.abs() ** gamma
    squared = powered.square().sum()
    return 0.0 if squared == 0 else float((g * powered).sum() / (lipschitz * squared) * (1 - beta) ** 2 / (1 + beta))


# The step size


@pytest.mark.parametrize(
    "gamma, beta, g, expected",
    [
        (0.5, 0, [4, -9], (8 + 27) / (2 * (4 + 9))),
        (0, 0, [4, -9, 0], 13 / (2 * 2)),  # only entries that are not zero have a sign
        (1, 0, [4, -9], 1 / 2),
        (1, 0.5, [4, -9], 1 / 2 * 0.25 / 1.5),
        (0.5, 0.9, [4, -9], 35 / 26 * 0.01 / 1.9),
    ],
)
def test_alpha_by_hand(gamma, beta, g, expected):
    p = parameter(*[0.0] * len(g), grad=g)
    opt = TheoremPowerSGD([p], 2.0, gamma, beta)
    opt.step()
    assert float(opt.param_groups[0]["lr"]) == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(p.detach(), -expected * powerball(p.grad, gamma))


@settings(deadline=None, max_examples=100)
@given(vectors, st.sampled_from(GAMMAS), st.floats(0, 0.99), st.floats(1e-3, 1e3))
def test_alpha_is_the_formula(g, gamma, beta, lipschitz):
    g = torch.tensor(g, dtype=torch.float64)
    g[g.abs() < 1e-100] = 0  # where the plain formula underflows
    found = float(adaptive_step([g], lipschitz, gamma, beta))
    assert found == pytest.approx(formula(g, lipschitz, gamma, beta), rel=1e-9)


@settings(deadline=None, max_examples=100)
@given(vectors, st.sampled_from(GAMMAS), st.floats(1e-3, 1e3))
def test_the_step_is_never_longer_than_the_gradient_over_l(g, gamma, lipschitz):
    """By Cauchy and Schwarz; so the proofs' step amplifies no vanishing gradient (docs/theory-notes.md)."""
    g = torch.tensor(g, dtype=torch.float64)
    g[g.abs() < 1e-100] = 0  # beside a larger entry they may underflow, which at gamma = 0 counts one entry less
    step = adaptive_step([g], lipschitz, gamma) * powerball(g, gamma)
    assert float(step.norm()) <= float(g.norm()) / lipschitz * (1 + 1e-9)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1e-3, 1e30])
def test_alpha_neither_overflows_nor_vanishes_in_float32(gamma, scale):
    g = torch.tensor([1.0, -0.5, 0.25, 0.0]) * scale
    exact = formula(g.double(), 2.0, gamma)
    assert float(adaptive_step([g], 2.0, gamma)) == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_norms_are_over_all_parameters_of_all_groups(gamma):
    parts = [nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in ((3, 2), (5,), (1,), (0,))]
    without = nn.Parameter(torch.ones(4))
    for p in parts:
        p.grad = torch.randn_like(p)
    opt = TheoremPowerSGD([{"params": parts[:2]}, {"params": [*parts[2:], without]}, {"params": []}], 3.0, gamma, 0.5)
    opt.step()
    expected = formula(torch.cat([p.grad.flatten() for p in parts]), 3.0, gamma, 0.5)
    for group in opt.param_groups:
        assert float(group["lr"]) == pytest.approx(expected, rel=1e-12)
    assert torch.equal(without, torch.ones(4))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_a_zero_gradient_gives_a_zero_step(gamma, momentum):
    p, q = parameter(1.0, 2.0, grad=[0.0, 0.0]), parameter(3.0, grad=[0.0], dtype=torch.float32)
    opt = TheoremPowerSGD([p, q], 2.0, gamma, momentum)
    opt.step()
    assert p.tolist() == [1, 2] and q.tolist() == [3] and float(opt.param_groups[0]["lr"]) == 0


def test_without_any_gradient_nothing_moves():
    p = parameter(1.0, 2.0)
    opt = TheoremPowerSGD([p], 2.0, 0.5)
    opt.step()
    assert p.tolist() == [1, 2] and float(opt.param_groups[0]["lr"]) == 0


def test_a_nan_is_not_hidden():
    for bad in (math.nan, math.inf):
        p = parameter(1.0, 2.0, grad=[bad, 1.0])
        TheoremPowerSGD([p], 2.0, 0.5).step()
        assert p.isnan().any()


# The iteration


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_trajectory_is_equation_4_from_v_1_zero(gamma, beta):
    p = nn.Parameter(torch.randn(7, dtype=torch.float64))
    x, v = p.detach().clone(), torch.zeros(7, dtype=torch.float64)
    opt = TheoremPowerSGD([p], 2.5, gamma, beta)
    for _ in range(30):
        p.grad = torch.randn(7, dtype=torch.float64)
        v = beta * v - formula(p.grad, 2.5, gamma, beta) * torch.sign(p.grad) * p.grad.abs() ** gamma
        x = x + v
        opt.step()
    torch.testing.assert_close(p.detach(), x, rtol=1e-12, atol=1e-12)


def test_gamma_1_is_gradient_descent_with_1_over_l():
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 300)) for _ in range(2))
    opt, plain = TheoremPowerSGD([ours], 4.0, 1.0), PowerSGD([theirs], lr=torch.tensor(0.25), gamma=1.0)
    for _ in range(20):
        ours.grad = torch.randn(300)
        theirs.grad = ours.grad.clone()
        opt.step()
        plain.step()
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.75, 1.0])
def test_multi_tensor_and_maximize_agree_with_the_plain_loop(gamma):
    sets = [[nn.Parameter(torch.linspace(-1, 1, n, dtype=torch.float64)) for n in (3, 8)] for _ in range(3)]
    opts = [
        TheoremPowerSGD(sets[0], 2.0, gamma, 0.9),
        TheoremPowerSGD(sets[1], 2.0, gamma, 0.9, foreach=True),
        TheoremPowerSGD(sets[2], 2.0, gamma, 0.9, maximize=True),
    ]
    for _ in range(20):
        for same in zip(*sets, strict=True):
            g = torch.randn_like(same[0])
            for p, sign in zip(same, (1, 1, -1), strict=True):
                p.grad = sign * g
        for opt in opts:
            opt.step()
    for one, many, up in zip(*sets, strict=True):
        torch.testing.assert_close(many, one, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(up, one, rtol=1e-12, atol=1e-14)


def test_mixed_dtypes_share_one_alpha():
    p, q = parameter(0.0, grad=[3.0]), parameter(0.0, 0.0, grad=[4.0, 0.5], dtype=torch.bfloat16)
    opt = TheoremPowerSGD([p, q], 1.0, 0.5)
    opt.step()
    expected = formula(torch.tensor([3, 4, 0.5], dtype=torch.float64), 1.0, 0.5)
    assert float(opt.param_groups[0]["lr"]) == pytest.approx(expected, rel=1e-6)
    assert p.dtype == torch.float64 and q.dtype == torch.bfloat16
    assert float(q[0].detach()) == pytest.approx(-expected * 2, rel=1e-2)


# What torch.optim's users take for granted


def test_nothing_is_read_back_to_the_host():
    """A tensor on the meta device has no values that could be read."""
    p = nn.Parameter(torch.ones(5, 3, device="meta"))
    q = nn.Parameter(torch.ones(5, device="meta"))
    for gamma in GAMMAS:
        for momentum in (0.0, 0.9):
            p.grad, q.grad = torch.ones_like(p), torch.ones_like(q)
            opt = TheoremPowerSGD([{"params": [p]}, {"params": [q]}], 2.0, gamma, momentum)
            opt.step()
            opt.step()
            assert opt.param_groups[1]["lr"].device.type == "meta"


def test_closure_is_evaluated_once_with_gradients_and_its_loss_returned():
    p, calls = nn.Parameter(torch.tensor([3.0, 4.0])), []

    def closure():
        calls.append(1)
        opt.zero_grad()
        loss = p.square().sum() / 2
        loss.backward()
        return loss

    opt = TheoremPowerSGD([p], 1.0, 1.0)
    assert opt.step(closure).item() == 12.5 and len(calls) == 1
    assert p.tolist() == [0, 0]  # one step with 1/L solves it: alpha is of the closure's gradient


def test_hooks_run_once_also_where_powersgd_is_used():
    PowerSGD([nn.Parameter(torch.ones(1))])  # its construction makes torch wrap PowerSGD.step
    opt, calls = TheoremPowerSGD([parameter(1.0, grad=[1.0])], 1.0), []
    opt.register_step_pre_hook(lambda *_: calls.append("before"))
    opt.register_step_post_hook(lambda *_: calls.append("after"))
    opt.step()
    assert calls == ["before", "after"]


def through_file(opt, params):
    file = io.BytesIO()
    torch.save(opt.state_dict(), file)
    file.seek(0)
    fresh = TheoremPowerSGD(params, 1.0, 1.0, 0.1)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    return fresh


def test_state_dict_round_trip_goes_on_with_the_same_bits():
    ours = [nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(5))]
    opt = TheoremPowerSGD(ours, 2.0, 0.4, 0.9)
    grads = [[torch.randn_like(p) for p in ours] for _ in range(10)]
    for step, gs in enumerate(grads):
        if step == 5:
            theirs = [nn.Parameter(p.detach().clone()) for p in ours]
            other = through_file(opt, theirs)
            assert float(other.param_groups[0]["lr"]) == float(opt.param_groups[0]["lr"]) > 0
            assert other.param_groups[0]["lipschitz"] == 2
        for p, g in zip(ours, gs, strict=True):
            p.grad = g.clone()
        opt.step()
        if step >= 5:
            for p, g in zip(theirs, gs, strict=True):
                p.grad = g.clone()
            other.step()
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda opt: pickle.loads(pickle.dumps(opt))])
def test_copies_are_whole(twin):
    opt = TheoremPowerSGD([parameter(1.0, 2.0, grad=[3.0, 4.0])], 2.0, 0.5, 0.9)
    opt.step()
    other = twin(opt)
    (p,) = other.param_groups[0]["params"]
    p.grad = torch.tensor([3.0, 4.0], dtype=torch.float64)
    opt.step()
    other.step()
    assert torch.equal(p, opt.param_groups[0]["params"][0])
    other.add_param_group({"params": [parameter(1.0)]})
    assert other.param_groups[1]["lipschitz"] == 2


def test_add_param_group_joins_the_norms():
    p, q = parameter(0.0, grad=[3.0]), parameter(0.0, grad=[4.0])
    opt = TheoremPowerSGD([p], 1.0, 0.0)
    opt.step()
    opt.add_param_group({"params": [q]})
    opt.step()
    assert float(opt.param_groups[1]["lr"]) == 3.5


# What is refused


@pytest.mark.parametrize("lipschitz", [0, -1.0, math.inf, math.nan])
def test_l_must_be_positive_and_finite(lipschitz):
    with pytest.raises(ValueError, match=f"lipschitz must be positive and finite, not {lipschitz}"):
        TheoremPowerSGD([parameter(1.0)], lipschitz)


@pytest.mark.parametrize("name, value", [("gamma", 0.5), ("momentum", 0.5), ("lipschitz", 2.0)])
def test_groups_must_agree(name, value):
    groups = [{"params": [parameter(1.0)]}, {"params": [parameter(1.0)], name: value}]
    with pytest.raises(ValueError, match=f"{name} must be the same in all groups"):
        TheoremPowerSGD(groups, 1.0, 0.8)
    opt = TheoremPowerSGD([parameter(1.0)], 1.0, 0.8)
    with pytest.raises(ValueError, match=f"{name} must be the same"):
        opt.add_param_group({"params": [parameter(1.0)], name: value})
    assert len(opt.param_groups) == 1
    opt.add_param_group({"params": [parameter(1.0, grad=[1.0])]})
    opt.param_groups[1][name] = value
    with pytest.raises(ValueError, match=f"{name} must be the same"):
        opt.step()


@pytest.mark.parametrize(
    "option, message", [({"weight_decay": 0.1}, "weight_decay must be 0"), ({"lr_in_velocity": False}, "equation")]
)
def test_what_the_theorems_do_not_cover_is_refused(option, message):
    with pytest.raises(ValueError, match=message):
        TheoremPowerSGD([{"params": [parameter(1.0)], **option}], 1.0)


@pytest.mark.parametrize("name, value", [("gamma", 1.5), ("gamma", -0.1), ("momentum", 1.0), ("momentum", -0.1)])
def test_ranges_are_those_of_powersgd(name, value):
    with pytest.raises(ValueError, match=name):
        TheoremPowerSGD([parameter(1.0)], 1.0, **{name: value})


def test_sparse_gradients_are_refused():
    layer = nn.Embedding(4, 2, sparse=True)
    layer(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse"):
        TheoremPowerSGD(layer.parameters(), 1.0).step()


def test_the_file_needs_only_torch_and_powersgd():
    tree = ast.parse((Path(__file__).parent.parent / "optimizers" / "theorem.py").read_text())
    found = {(node.level, node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    found |= {(0, alias.name) for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert found == {(0, "math"), (0, "torch"), (1, "powersgd")}
