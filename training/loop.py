"""The training loop: from a config and a run folder to finished records, resumable at every step."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict

import torch

from . import checkpoint
from .build import build_data
from .config import Config
from .device import choose_device, environment
from .interrupt import StopRequest
from .run import Run
from .trainer import Trainer, evaluate


def train(config: Config, run: Run, observers: tuple[Callable[[dict], None], ...] = ()) -> str:
    """Train the run, locked by the caller, from its newest checkpoint on; returns "finished" or "diverged".

    observers are called with every new row of metrics. Raises Interrupted after SIGINT or SIGTERM, with the
    state saved; RunError, DataError, ConfigError, OSError.
    """
    torch.set_num_threads(config.threads)
    device = choose_device(config.device)
    train_set, test_set = build_data(config, device)
    trainer = Trainer(config, device, steps_per_epoch=math.ceil(len(train_set) / config.batch_size))
    run.begin(asdict(config), environment(device))
    trainer.restore(checkpoint.load(run))
    run.write_rows(trainer.history)
    run.write_status("running", trainer.epoch, config.epochs, trainer.total_seconds())

    with StopRequest() as stop:
        saved = time.monotonic()
        while not (outcome := ending(config, trainer.history)):
            started = time.perf_counter() - trainer.seconds
            for inputs, labels in train_set.epoch(config.seed, trainer.epoch, config.batch_size, trainer.step):
                trainer.train_step(inputs, labels)
                if stop.requested or time.monotonic() - saved > config.checkpoint_seconds:
                    trainer.seconds = time.perf_counter() - started
                    checkpoint.save(run, trainer.state_dict())
                    stop.check()
                    saved, started = time.monotonic(), time.perf_counter() - trainer.seconds
            sums = trainer.sums.tolist()  # waits for the device, so the clock stops after it
            trainer.seconds = time.perf_counter() - started
            row = trainer.end_epoch(
                *sums,
                test=evaluate(trainer.model, test_set),
                train=evaluate(trainer.model, train_set) if config.evaluate_train else None,
            )
            for observe in observers:
                observe(row)
            checkpoint.save(run, trainer.state_dict())
            run.append(row)
            run.write_status("running", trainer.epoch, config.epochs, trainer.total_seconds())
            saved = time.monotonic()
            if not ending(config, trainer.history):
                stop.check()
    state, reason = outcome
    run.write_status(state, trainer.epoch, config.epochs, trainer.total_seconds(), reason)
    return state


def ending(config: Config, history: list[dict]) -> tuple[str, str] | None:
    """(state, reason) if the run is over after these rows, else None."""
    if not history:
        return None
    last = history[-1]
    if not math.isfinite(last["train_loss"]):
        return "diverged", f"loss not finite in epoch {last['epoch']}"
    if config.stop.success is not None and last["train_acc"] >= config.stop.success:
        return "finished", f"success: train accuracy {last['train_acc']:.4f} in epoch {last['epoch']}"
    if config.stop.dead and last["grad_norm1"] == 0:
        return "finished", f"dead: first-layer gradient exactly 0 in epoch {last['epoch']}"
    if last["epoch"] >= config.epochs:
        return "finished", "all epochs"
    return None
