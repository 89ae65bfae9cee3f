"""Your own optimizer through one YAML file, and the controls that are added in the same way."""

import json
from pathlib import Path

import pytest
import torch

from optimizers import PowerSGD, powerball
from optimizers.controls import NormalisedSGD, RescaledSGD
from runs.cli import resolved
from runs.code import code_of
from runs.identity import identity, science, settled
from runs.schema import ConfigError
from training.build import build_optimizer, load_class
from training.execute import execute

from .helpers import assert_same, composed, make_config, outcome, run_of, typed
from .test_run import plain

ROOT = Path(__file__).resolve().parent.parent
MINE = """
import torch

class Halved(torch.optim.SGD):
    def __init__(self, params, lr, strength=1.0):
        super().__init__(params, lr / 2 * strength)
"""


def test_adamw_trains_as_torch_does(tmp_path, fake_mnist):
    config = make_config(tmp_path, "adamw")
    made = build_optimizer(config, [torch.nn.Parameter(torch.ones(2))])
    assert type(made) is torch.optim.AdamW
    assert (made.defaults["lr"], made.defaults["weight_decay"]) == (1e-3, 0.01)
    assert list(made.defaults["betas"]) == [0.9, 0.999]
    assert execute(config).status()["state"] == "finished"


def test_a_class_of_the_users_own_file_is_trained_and_resumes(tmp_path, fake_mnist):
    (tmp_path / "mine.py").write_text(MINE)
    path = f"{tmp_path / 'mine.py'}:Halved"
    changes = {"optimizer.class_path": path, "optimizer.code": code_of(path), "optimizer.weight_decay": None,
               "optimizer.arguments": {"strength": 2.0}, "optimizer.lr": 0.05}  # fmt: skip
    ours = run_of(make_config(tmp_path, "adamw", **changes))
    execute(make_config(tmp_path, "adamw", **changes))
    theirs = make_config(tmp_path, "sgd", **{"optimizer.lr": 0.05})
    execute(theirs)
    assert_same(outcome(ours)["rows"], outcome(run_of(theirs))["rows"])


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("os.path", "is not a class of optimizers"),
        ("torch.nn.Linear", "is not a class of optimizers"),
        ("torch.optim.Adamm", "cannot be loaded"),
        ("torch.optim.lr_scheduler", "is not a class of optimizers"),
        ("absent.py:Mine", "cannot be loaded"),
        ("optimizers.powersgd.powerball", "is not a class of optimizers"),
    ],
)
def test_what_is_no_optimizer_is_refused_in_a_line(path, says):
    with pytest.raises(ConfigError, match=says):
        load_class(path, None)


def test_arguments_are_part_of_the_identity_and_the_grid_is_not():
    base = plain("optimizer=adamw")
    assert identity(base) != identity(plain("optimizer=adamw", "optimizer.arguments.betas=[0.8,0.999]"))
    assert identity(base) == identity(plain("optimizer=adamw", "optimizer.grid={lr: [1]}"))


def test_it_joins_a_sweep_with_its_own_grid_the_selection_and_the_figure(tmp_path):
    arguments = ["dataset=synthetic", "model=mlp", "model.depth=2", "epochs=1", "wandb.mode=disabled", "also=[adamw]",
                 "protocol.tune=true", "+grid.paper.sgd.lr=[0.1]", f"results={tmp_path}"]  # fmt: skip
    done = typed("sweep.py", *arguments, "seeds=[0]")
    assert done.returncode == 0, done.stderr
    plan = json.loads((tmp_path / "custom" / "plan-sweep.json").read_text())["runs"]
    lrs = [entry["config"]["optimizer.lr"] for entry in plan if (entry["label"], entry["stage"]) == ("adamw", "grid")]
    assert lrs == [1e-2, 5e-3, 1e-3, 5e-4, 1e-4]
    assert "adamw: " in done.stdout and [e["stage"] for e in plan if e["label"] == "adamw"][-1] == "report"
    refused = typed("sweep.py", *[a for a in arguments if "also" not in a], "also=[sgdm]", "plan=true")
    assert refused.returncode == 2 and "has no grid" in refused.stderr


def test_the_controls_take_the_steps_that_they_name():
    g = [torch.tensor([3.0, -4.0]), torch.tensor([0.0, 1e-3])]
    for optimizer, length in (
        (lambda p: RescaledSGD(p, 0.1, gamma=0.5), torch.cat([powerball(x, 0.5) for x in g]).norm()),
        (lambda p: NormalisedSGD(p, 0.1), torch.tensor(1.0)),
    ):
        x = [torch.nn.Parameter(torch.zeros(2)) for _ in g]
        for parameter, gradient in zip(x, g, strict=True):
            parameter.grad = gradient.clone()
        optimizer(x).step()
        step, whole = -torch.cat([p.detach() for p in x]), torch.cat(g)
        torch.testing.assert_close(step, 0.1 * length * whole / whole.norm())


def test_a_tensorwise_control_has_the_length_of_each_tensor_and_the_gradient_s_direction():
    g = [torch.tensor([3.0, -4.0]), torch.tensor([0.0, 1e-3])]
    for optimizer, lengths in (
        (lambda p: RescaledSGD(p, 0.1, gamma=0.5, per_tensor=True), [powerball(x, 0.5).norm() for x in g]),
        (lambda p: NormalisedSGD(p, 0.1, per_tensor=True), [torch.tensor(1.0)] * 2),
    ):
        x = [torch.nn.Parameter(torch.zeros(2)) for _ in g]
        for parameter, gradient in zip(x, g, strict=True):
            parameter.grad = gradient.clone()
        optimizer(x).step()
        for parameter, gradient, length in zip(x, g, lengths, strict=True):
            torch.testing.assert_close(-parameter.detach(), 0.1 * length * gradient / gradient.norm())


def test_a_control_at_gamma_1_is_sgd_and_a_zero_gradient_is_a_zero_step():
    x, y = (torch.nn.Parameter(torch.tensor([1.0, 2.0])) for _ in range(2))
    ours, theirs = RescaledSGD([x], 0.1, gamma=1.0, weight_decay=0.5), torch.optim.SGD([y], 0.1, weight_decay=0.5)
    for gradient in ([1.0, -3.0], [0.5, 0.0]):
        x.grad, y.grad = torch.tensor(gradient), torch.tensor(gradient)
        ours.step()
        theirs.step()
    torch.testing.assert_close(x, y)
    x.grad = torch.zeros(2)
    before = x.detach().clone()
    NormalisedSGD([x], 1.0).step()
    RescaledSGD([x], 1.0, gamma=0.0).step()
    assert torch.equal(x, before)
    # A gradient whose squares vanish in float32 still has its direction.
    x.grad = torch.tensor([1e-30, 0.0])
    NormalisedSGD([x], 1.0).step()
    torch.testing.assert_close(x.detach(), before - torch.tensor([1.0, 0.0]))


def test_a_control_decays_weights_as_powersgd_does_and_does_not_rescale_the_decay():
    """Of one number each, the direction of the gradient is that of its power."""
    x, y = ([torch.nn.Parameter(torch.tensor([1.0])), torch.nn.Parameter(torch.tensor([-2.0]))] for _ in range(2))
    ours = RescaledSGD(x, 0.1, gamma=0.2, weight_decay=0.5, per_tensor=True)
    theirs = PowerSGD(y, 0.1, gamma=0.2, weight_decay=0.5, decay_after_power=True)
    for gradients in ((1e-4, -3.0), (0.5, 0.0)):
        for parameter, gradient in zip([*x, *y], gradients * 2, strict=True):
            parameter.grad = torch.tensor([gradient])
        ours.step()
        theirs.step()
    torch.testing.assert_close(x, y)


def test_a_control_s_name_says_how_it_decays_if_it_does():
    def named(*overrides):
        return science(settled(resolved(composed(*overrides)))).get("optimizer.decay_after_scaling")

    assert named("optimizer=rescaled_sgd", "dataset=mnist") is None
    assert named("optimizer=rescaled_sgd", "dataset=cifar10", "model=resnet50") is True
    assert named("optimizer=adamw", "dataset=cifar10", "model=resnet50") is None  # its decay is torch's


@pytest.mark.parametrize("arguments", [{"lr": -1}, {"lr": 1, "gamma": 2}, {"lr": 1, "weight_decay": -1}])
def test_a_control_refuses_what_is_out_of_range(arguments):
    with pytest.raises(ValueError):
        RescaledSGD([torch.nn.Parameter(torch.ones(1))], **arguments)
