"""One step of training, one evaluation, and the state that a checkpoint holds."""

import math
from contextlib import nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from data.tensors import derived_seed
from models.mlp import MLP
from optimizers import powerball
from runs.schema import Config, ConfigError

from .build import build_model, build_optimizer, build_schedule
from .device import first_weight
from .distributed import World

EVALUATION_VALUES = 1000 * 3 * 32 * 32  # numbers in a batch of evaluation: 1000 CIFAR images, 20 of ImageNet
SUMS, LAYER_SUMS = 6, 4  # numbers that an epoch sums up, and those for each layer
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Trainer:
    """Model, optimizer, schedule and how far they have come.

    model is the network itself, whose weights are saved; network is what a step calls: the same, compiled or
    spread over processes as the config says. images: the size of the whole training set.
    """

    def __init__(self, config: Config, device: torch.device, images: int, world: World = World()):  # noqa: B008
        self.config, self.device, self.world, self.images = config, device, world, images
        torch.manual_seed(derived_seed(config.seed, "weights"))
        self.model = build_model(config).to(device)
        torch.manual_seed(derived_seed(config.seed, "training"))
        if config.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.network = self._network()
        self.optimizer = build_optimizer(config, self.model.parameters())
        steps_per_epoch = -(-images // config.batch_size)
        self.schedule = build_schedule(config, self.optimizer, steps_per_epoch)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        self.gamma = self.optimizer.defaults.get("gamma")
        self.first_weight = first_weight(self.model)
        self.epoch = self.step = 0  # complete epochs, and steps into the present one
        self.seconds = 0.0  # of training in the present epoch; evaluation and saving are off the clock
        self.lr = self.optimizer.param_groups[0]["lr"]  # at the present epoch's start
        self.history: list[dict] = []
        # Sums over the epoch's steps, read back once an epoch so that no step waits for the device: loss, correct,
        # images; |g|_1 and |sigma(g)|_1 of the first layer, and the steps that have them. MPS has no float64.
        # With layer_norms also LAYER_SUMS for each layer: |sigma(g)|_2 / |g|_2, its steps, |g|_2, its steps.
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self.layers = [layer.weight for layer in self.model.layers] if config.layer_norms else []
        self.sums = torch.zeros(SUMS + LAYER_SUMS * len(self.layers), dtype=dtype, device=device)

    def _network(self) -> nn.Module:
        network = self.model
        if self.world.size > 1:
            if self.config.sync_batchnorm:
                if self.device.type != "cuda":
                    raise ConfigError(
                        f"sync_batchnorm=true needs CUDA, torch's SyncBatchNorm refuses {self.device.type}"
                    )
                network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
            ids = [self.world.local_rank] if self.device.type == "cuda" else None
            network = DistributedDataParallel(network, device_ids=ids)
        if self.config.compile != "none":
            network = torch.compile(network, mode=self.config.compile)
        return network

    def train_step(self, inputs: Tensor, labels: Tensor) -> None:
        """One update from this process' share of a batch, in `accumulate` parts."""
        config = self.config
        batch = min(config.batch_size, self.images - self.step * config.batch_size)
        if config.compile == "reduce-overhead":
            torch.compiler.cudagraph_mark_step_begin()
        self.optimizer.zero_grad(set_to_none=True)
        parts = list(zip(inputs.tensor_split(config.accumulate), labels.tensor_split(config.accumulate), strict=True))
        for number, (x, y) in enumerate(parts, start=1):
            # Processes add up their gradients once a step, in the last backward.
            waiting = self.world.size > 1 and number < len(parts)
            with self.network.no_sync() if waiting else nullcontext():
                with self.autocast():
                    logits = self.network(self.laid_out(x))
                    loss = F.cross_entropy(logits, y)
                # Parts and processes may differ in size by an image; this makes their sum the batch's mean.
                share = len(y) * self.world.size / batch
                self.scaler.scale(loss if share == 1 else loss * share).backward()
            self._count(logits.detach(), loss.detach(), y)
        if self.scaler.is_enabled():
            self.scaler.unscale_(self.optimizer)
        self._measure_gradient()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        self.step += 1

    def autocast(self):
        dtype = AUTOCAST.get(self.config.precision)
        return torch.autocast(self.device.type, dtype) if dtype else nullcontext()

    def laid_out(self, x: Tensor) -> Tensor:
        return x.contiguous(memory_format=torch.channels_last) if self.config.channels_last else x

    @torch.no_grad()
    def _count(self, logits: Tensor, loss: Tensor, labels: Tensor) -> None:
        images = torch.full_like(loss, len(labels))
        self.sums[:3] += torch.stack([loss * images, (logits.argmax(1) == labels).sum(), images])

    @torch.no_grad()
    def _measure_gradient(self) -> None:
        grad = self.first_weight.grad
        norm = torch.linalg.vector_norm(grad, 1)
        powered = norm if self.gamma is None else torch.linalg.vector_norm(powerball(grad, self.gamma), 1)
        found = torch.stack([norm, powered, torch.ones_like(norm)])
        if self.scaler.is_enabled():  # a step that the scaler skips for its overflow does not count
            found = torch.where(norm.isfinite(), found, 0)
        self.sums[3:SUMS] += found
        if self.layers:
            self._measure_layers()

    def _measure_layers(self) -> None:
        grads = [weight.grad for weight in self.layers]
        norms = powered = self._norms(grads)
        if self.gamma is not None:
            powered = self._norms([powerball(grad, self.gamma) for grad in grads])
        some = norms != 0
        found = torch.stack([torch.where(some, powered / norms, 0), some, norms, torch.ones_like(norms)])
        if self.scaler.is_enabled():
            found = torch.where(norms.isfinite().all(), found, 0)
        self.sums[SUMS:] += found.flatten()

    def _norms(self, grads: list[Tensor]) -> Tensor:
        # Summed up in float64: in float32 the squares of a vanishing gradient would be 0.
        return torch.stack([torch.linalg.vector_norm(grad, dtype=self.sums.dtype) for grad in grads])

    def end_epoch(
        self, sums: list[float], test: "Scores", train: "Scores | None" = None, validation: "Scores | None" = None
    ) -> dict:
        """The epoch's row of metrics from its sums over all processes and its evaluations; moves to the next."""
        loss, correct, images, norm, powered, steps = sums[:SUMS]
        steps = steps or float("nan")
        self.epoch += 1
        row = {
            "epoch": self.epoch,
            "lr": self.lr,
            "train_loss": loss / images,
            "train_acc": correct / images,
            "grad_norm1": norm / steps,
            "powered_norm1": None if self.gamma is None else powered / steps,
            "seconds": self.seconds,
            "images_per_second": images / self.seconds,
            "test_loss": test.loss,
            "test_acc": test.acc,
        }
        if validation:
            row |= {"validation_loss": validation.loss, "validation_acc": validation.acc}
        if train:
            row |= {"train_eval_loss": train.loss, "train_eval_acc": train.acc}
        row |= {f"dead_units_{layer}": count for layer, count in enumerate(test.dead_units, start=1)}
        row |= self._layer_columns(sums[SUMS:])
        self.history.append(row)
        self.step, self.seconds, self.lr = 0, 0.0, self.optimizer.param_groups[0]["lr"]
        self.sums.zero_()
        return row

    def _layer_columns(self, sums: list[float]) -> dict:
        depth = len(self.layers)
        ratios, counts, norms, steps = (sums[part * depth : (part + 1) * depth] for part in range(LAYER_SUMS))
        amplification = [a / n if n else None for a, n in zip(ratios, counts, strict=True)]
        means = [norm / (n or float("nan")) for norm, n in zip(norms, steps, strict=True)]
        return {f"amplification_{layer}": value for layer, value in enumerate(amplification, start=1)} | {
            f"grad_norm2_{layer}": value for layer, value in enumerate(means, start=1)
        }

    def total_seconds(self) -> float:
        return sum(row["seconds"] for row in self.history) + self.seconds

    @torch.no_grad()
    def evaluate(self, dataset) -> "Scores":
        """Over the whole data set, of which each process takes its share."""
        self.world.share_buffers(self.model)
        self.model.eval()
        scores = torch.zeros(2, dtype=self.sums.dtype, device=self.device)
        fired = []
        with self.autocast():
            size = max(1, EVALUATION_VALUES // math.prod(dataset.image_shape))
            for inputs, labels in dataset.batches(max(size, 8 * self.world.size)):
                active: list[Tensor] = []
                inputs = self.laid_out(inputs)
                logits = self.model(inputs, active) if isinstance(self.model, MLP) else self.model(inputs)
                loss = F.cross_entropy(logits, labels, reduction="sum")
                scores += torch.stack([loss, (logits.argmax(1) == labels).sum()])
                if active:
                    fired.append(torch.stack(active))
        self.model.train()
        loss, correct = self.world.sum(scores).tolist()
        dead = []
        if fired:
            times = self.world.sum(torch.stack(fired).sum(dim=0))
            dead = (times == 0).sum(dim=1).tolist()
        return Scores(loss / len(dataset), correct / len(dataset), dead)

    def state_dict(self) -> dict:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "lr": self.lr,
            "history": self.history,
            "sums": self.sums,
            "generator": torch.get_rng_state(),
            "cuda_generator": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def restore(self, state: dict | None) -> None:
        """Go on from a state_dict; None leaves the fresh start."""
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]
        self.lr, self.history = state["lr"], state["history"]
        self.sums[: len(state["sums"])].copy_(state["sums"])  # one without those of the layers may be shorter
        torch.set_rng_state(state["generator"])
        if self.device.type == "cuda" and state["cuda_generator"] is not None:
            torch.cuda.set_rng_state(state["cuda_generator"], self.device)


class Scores(NamedTuple):
    """Mean loss and accuracy over a data set; of an MLP also the dead units of each hidden layer: those that
    fire for none of its images."""

    loss: float
    acc: float
    dead_units: list[int]
