"""One step of training, one evaluation, and the state that a checkpoint holds."""

import math
from contextlib import nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from data.tensors import derived_seed
from runs.schema import Config

from .build import build_model, build_network, build_optimizer, build_schedule, compiled
from .distributed import World
from .meters import DeadUnits, step_meters

# Input values in an evaluation batch, unless a training batch is larger. A small network's feature maps of so many
# images fit into a CPU's cache: with four times as many, evaluation took up to three times as long.
EVALUATION_VALUES = 250 * 3 * 32 * 32
# Training batches in an evaluation batch on a GPU, since a network without gradients holds few feature maps at a time;
# one for ImageNet, whose images other processes decode into shared memory.
EVALUATION_BATCHES = 4
EVALUATION_VALUES_ON_GPU = 1000 * 3 * 32 * 32
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
PARTS = ("model", "optimizer", "schedule", "scaler")
PROGRESS = ("epoch", "step", "seconds", "lr", "history", "within")
COUNTS = 3  # loss, correct, images: the first of an epoch's sums
# A row of metrics begins with these columns, as far as it has them; the meters' other columns follow.
COLUMNS = (
    "epoch", "lr", "train_loss", "train_acc", "grad_norm1", "powered_norm1", "seconds", "images_per_second",
    "test_loss", "test_acc", "validation_loss", "validation_acc", "train_eval_loss", "train_eval_acc",
)  # fmt: skip


class Trainer:
    """Model, optimizer, schedule and the position in training.

    model is the plain network, whose weights are saved; network is what a step calls: the same network, compiled or
    wrapped in DDP as the config says. images: the size of the whole training set.
    """

    def __init__(self, config: Config, device: torch.device, images: int, world: World = World()):  # noqa: B008
        self.config, self.device, self.world, self.images = config, device, world, images
        torch.manual_seed(derived_seed(config.seed, "weights"))
        self.model = build_model(config).to(device)
        torch.manual_seed(derived_seed(config.seed, "training"))
        if config.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.network = build_network(config, self.model, device, world)
        # A compiled graph does not notice the hooks that count dead units.
        evaluates_compiled = device.type == "cuda" and not DeadUnits(self.model).size
        self.evaluated = compiled(config, self.model) if evaluates_compiled else self.model
        self.optimizer = build_optimizer(config, self.model.parameters())
        steps = -(-images // config.batch_size)
        self.schedule = build_schedule(config, self.optimizer, steps_per_epoch=steps)
        # Evaluations take place after these steps of an epoch, and once more at its end.
        self.stops = {-(-steps * part // config.evaluations) for part in range(1, config.evaluations)} - {steps}
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        self.epoch = self.step = 0  # complete epochs, and steps in the current one
        self.seconds = 0.0  # of training in the current epoch, without evaluation and saving
        self.lr = self.optimizer.param_groups[0]["lr"]  # at the start of the current epoch
        self.history: list[dict] = []
        self.within: list[tuple[float, float]] = []  # (train, test) accuracy at the current epoch's stops so far
        # Sums over the epoch's steps, read back once an epoch so that no step waits for the device.
        self.meters = step_meters(config, self.model, self.optimizer)
        self.sizes = [COUNTS, *(meter.size for meter in self.meters)]
        self.sums = self._zeros(sum(self.sizes))

    def train_step(self, inputs: Tensor, labels: Tensor) -> None:
        """One update from this process's share of a batch, in `accumulate` parts."""
        config = self.config
        batch = min(config.batch_size, self.images - self.step * config.batch_size)
        if config.compile == "reduce-overhead":
            torch.compiler.cudagraph_mark_step_begin()
        self.optimizer.zero_grad(set_to_none=True)
        counts, *measured = self.sums.split(self.sizes)
        split = zip(inputs.tensor_split(config.accumulate), labels.tensor_split(config.accumulate), strict=True)
        parts = list(split) if len(labels) >= config.accumulate else [(inputs, labels)]  # no part without images
        for number, (x, y) in enumerate(parts, start=1):
            # Processes average their gradients once a step, in the last backward pass.
            waiting = self.world.size > 1 and number < len(parts)
            with self.network.no_sync() if waiting else nullcontext():  # pyright: ignore[reportCallIssue]
                with self.autocast():
                    logits = self.network(self.laid_out(x))
                    loss = F.cross_entropy(logits, y)
                # Parts and processes may differ in size by an image; so weighted, they sum to the batch's mean.
                share = len(y) * self.world.size / batch
                self.scaler.scale(loss if share == 1 else loss * share).backward()
            with torch.no_grad():
                images = torch.full_like(loss, len(y))
                lost = loss * images if len(y) else images  # a process may get no image of the last batch
                counts += torch.stack([lost, (logits.argmax(1) == y).sum(), images])
        if self.scaler.is_enabled():
            self.scaler.unscale_(self.optimizer)
        with torch.no_grad():
            for meter, sums in zip(self.meters, measured, strict=True):
                meter.update(sums)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        self.step += 1

    def look(self, test_set) -> None:
        """Evaluate within the epoch."""
        _, correct, images = self.world.sum(self.sums[:COUNTS].clone()).tolist()
        self.within.append((correct / images, self.evaluate(test_set).acc))

    def end_epoch(
        self, sums: Tensor, test: "Scores", train: "Scores | None" = None, validation: "Scores | None" = None
    ) -> dict[str, float | None]:
        """The epoch's row of metrics from its sums over all processes and its evaluations; moves to the next."""
        (loss, correct, images), *measured = (part.tolist() for part in sums.split(self.sizes))
        self.epoch += 1
        row = {"epoch": self.epoch, "lr": self.lr, "train_loss": loss / images, "train_acc": correct / images}
        row |= {"seconds": self.seconds, "images_per_second": images / self.seconds}
        for name, scores in {"test": test, "validation": validation, "train_eval": train}.items():
            row |= {f"{name}_loss": scores.loss, f"{name}_acc": scores.acc} if scores else {}
        for number, accuracies in enumerate(self.within, start=1):
            row |= dict(zip((f"train_acc_{number}", f"test_acc_{number}"), accuracies, strict=True))
        row |= test.dead_units
        for meter, part in zip(self.meters, measured, strict=True):
            row |= meter.columns(part)
        row = {column: row[column] for column in COLUMNS if column in row} | row
        self.history.append(row)
        self.step, self.seconds, self.lr, self.within = 0, 0.0, self.optimizer.param_groups[0]["lr"], []
        self.sums.zero_()
        return row

    @torch.no_grad()
    def evaluate(self, dataset) -> "Scores":
        """Loss and accuracy over the whole data set; under torchrun each process computes its share."""
        dead_units = DeadUnits(self.model)
        sums = self._zeros(2 + dead_units.size)
        scores, fired = sums.split([2, dead_units.size])
        size = self.evaluation_batch(math.prod(dataset.image_shape))
        self.world.share_buffers(self.model)
        self.model.eval()
        with self.autocast(), dead_units.watching(fired):
            for inputs, labels in dataset.batches(size):
                if self.config.compile == "reduce-overhead":
                    torch.compiler.cudagraph_mark_step_begin()
                logits = self.evaluated(self.laid_out(inputs))
                loss = F.cross_entropy(logits, labels, reduction="sum")
                scores += torch.stack([loss, (logits.argmax(1) == labels).sum()])
        self.model.train()
        loss, correct, *times = self.world.sum(sums).tolist()
        return Scores(loss / len(dataset), correct / len(dataset), dead_units.columns(times))

    def evaluation_batch(self, values: int) -> int:
        """How many images of so many values are evaluated at a time, by all processes together.

        It follows from config and device alone, since the last bits of a sum depend on it.
        """
        # At least the part of a batch that training fits in memory with its gradients.
        together = self.config.batch_size // self.config.accumulate
        size = max(1, EVALUATION_VALUES // values, together, 8 * self.world.size)
        if self.device.type == "cuda":
            size = max(size, min(EVALUATION_BATCHES * together, EVALUATION_VALUES_ON_GPU // values))
        return size

    def autocast(self):
        dtype = AUTOCAST.get(self.config.precision)
        return torch.autocast(self.device.type, dtype) if dtype else nullcontext()

    def laid_out(self, x: Tensor) -> Tensor:
        return x.contiguous(memory_format=torch.channels_last) if self.config.channels_last else x

    def _zeros(self, size: int) -> Tensor:
        dtype = torch.float32 if self.device.type == "mps" else torch.float64  # MPS has no float64
        return torch.zeros(size, dtype=dtype, device=self.device)

    def total_seconds(self) -> float:
        return sum(row["seconds"] for row in self.history) + self.seconds

    def state_dict(self) -> dict:
        return {
            **{part: getattr(self, part).state_dict() for part in PARTS},
            **{name: getattr(self, name) for name in PROGRESS},
            "sums": self.sums,
            "generator": torch.get_rng_state(),
            "cuda_generator": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def restore(self, state: dict) -> None:
        """Continue from a state_dict."""
        for part in PARTS:
            getattr(self, part).load_state_dict(state[part])
        for name in PROGRESS:
            setattr(self, name, state.get(name, getattr(self, name)))
        if self.world.main:  # saved are the sums over all processes
            self.sums[: len(state["sums"])].copy_(state["sums"])  # shorter if it was saved without layer_norms
        torch.set_rng_state(state["generator"])
        if self.device.type == "cuda" and state["cuda_generator"] is not None:
            torch.cuda.set_rng_state(state["cuda_generator"], self.device)


class Scores(NamedTuple):
    """Mean loss and accuracy over a data set, and the dead units by layer for networks that count them."""

    loss: float
    acc: float
    dead_units: dict[str, int]
