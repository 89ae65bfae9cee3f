"""One step of training, one evaluation, and the state that a checkpoint holds."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.tensors import TensorDataset, derived_seed
from models.mlp import MLP
from optimizers import powerball

from .build import build_model, build_optimizer, build_schedule
from .config import Config
from .device import first_weight

EVALUATION_BATCH = 1000


class Trainer:
    """Model, optimizer, schedule and how far they have come."""

    def __init__(self, config: Config, device: torch.device, steps_per_epoch: int):
        torch.manual_seed(derived_seed(config.seed, "weights"))
        self.model = build_model(config).to(device)
        torch.manual_seed(derived_seed(config.seed, "training"))
        self.optimizer = build_optimizer(config, self.model.parameters())
        self.schedule = build_schedule(config, self.optimizer, steps_per_epoch)
        self.gamma = self.optimizer.defaults.get("gamma")
        self.first_weight = first_weight(self.model)
        self.epoch = self.step = 0  # complete epochs, and steps into the present one
        self.seconds = 0.0  # of training in the present epoch; evaluation and saving are off the clock
        self.lr = self.optimizer.param_groups[0]["lr"]  # at the present epoch's start
        self.history: list[dict] = []
        # Sums over the epoch's steps: loss, correct, images, |g|_1, |sigma(g)|_1 of the first layer. Read back
        # once an epoch, so that no step waits for the device. MPS has no float64.
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self.sums = torch.zeros(5, dtype=dtype, device=device)

    def train_step(self, inputs: Tensor, labels: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.model(inputs)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        self._measure(logits.detach(), loss.detach(), labels)
        self.optimizer.step()
        self.schedule.step()
        self.step += 1

    @torch.no_grad()
    def _measure(self, logits: Tensor, loss: Tensor, labels: Tensor) -> None:
        grad = self.first_weight.grad
        norm = torch.linalg.vector_norm(grad, 1)
        powered = norm if self.gamma is None else torch.linalg.vector_norm(powerball(grad, self.gamma), 1)
        images = torch.full_like(norm, len(labels))
        self.sums += torch.stack([loss * images, (logits.argmax(1) == labels).sum(), images, norm, powered])

    def end_epoch(self, loss, correct, images, norm, powered, test: "Scores", train: "Scores | None") -> dict:
        """The epoch's row of metrics from its sums and evaluations; moves on to the next epoch."""
        self.epoch += 1
        row = {
            "epoch": self.epoch,
            "lr": self.lr,
            "train_loss": loss / images,
            "train_acc": correct / images,
            "grad_norm1": norm / self.step,
            "powered_norm1": None if self.gamma is None else powered / self.step,
            "seconds": self.seconds,
            "images_per_second": images / self.seconds,
            "test_loss": test.loss,
            "test_acc": test.acc,
        }
        if train:
            row |= {"train_eval_loss": train.loss, "train_eval_acc": train.acc}
        row |= {f"dead_units_{layer}": count for layer, count in enumerate(test.dead_units, start=1)}
        self.history.append(row)
        self.step, self.seconds, self.lr = 0, 0.0, self.optimizer.param_groups[0]["lr"]
        self.sums.zero_()
        return row

    def total_seconds(self) -> float:
        return sum(row["seconds"] for row in self.history) + self.seconds

    def state_dict(self) -> dict:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "lr": self.lr,
            "history": self.history,
            "sums": self.sums,
            "generator": torch.get_rng_state(),
            "cuda_generators": torch.cuda.get_rng_state_all() if self.sums.is_cuda else [],
        }

    def restore(self, state: dict | None) -> None:
        """Go on from a state_dict; None leaves the fresh start."""
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]
        self.lr, self.history = state["lr"], state["history"]
        self.sums.copy_(state["sums"])
        torch.set_rng_state(state["generator"])
        if state["cuda_generators"] and self.sums.is_cuda:
            torch.cuda.set_rng_state_all(state["cuda_generators"])


class Scores(NamedTuple):
    """Mean loss and accuracy over a data set; of an MLP also the dead units of each hidden layer: those that
    fire for none of its images."""

    loss: float
    acc: float
    dead_units: list[int]


@torch.no_grad()
def evaluate(model: nn.Module, dataset: TensorDataset) -> Scores:
    model.eval()
    losses, corrects, fired = [], [], []
    for inputs, labels in dataset.batches(EVALUATION_BATCH):
        active: list[Tensor] = []
        logits = model(inputs, active) if isinstance(model, MLP) else model(inputs)
        losses.append(F.cross_entropy(logits, labels, reduction="sum"))
        corrects.append((logits.argmax(1) == labels).sum())
        if active:
            fired.append(torch.stack(active))
    model.train()
    loss, correct = torch.stack(losses).sum().item(), torch.stack(corrects).sum().item()
    dead = (~torch.stack(fired).any(dim=0)).sum(dim=1).tolist() if fired else []
    return Scores(loss / len(dataset), correct / len(dataset), dead)
