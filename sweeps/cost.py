"""What a run costs, before it is trained: from runs that have ended, else from calibration, else from its arithmetic.

The calibration is a few steps of each network on this machine, kept in results/calibration.json.
"""

import functools
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from runs import schema
from runs.files import locked, make_folder, read_json, write_json
from runs.schema import ConfigError

# Arithmetic alone, where nothing was measured: FLOP/s of a CPU thread (measured with a bottleneck ResNet), and of an
# H100-class GPU in float32 at batch 128 (assumed, never measured here).
CPU_THREAD = 28e9
GPU = 20e12
EVALUATION = 1 / 3  # of a training step's arithmetic: forward alone
CALIBRATED_PRODUCTS = 16e9  # multiply-adds in a batch of calibration: seconds of a CPU


@dataclass
class Cost:
    """Seconds of one run that trains all its epochs, where that comes from, and seconds on an assumed GPU."""

    seconds: float
    source: str  # measured, calibrated or arithmetic
    gpu_seconds: float


class Costs:
    """Estimates for the runs of a plan; `jobs` that have ended are what is measured."""

    def __init__(self, jobs, results: Path):
        self.calibration = read_calibration(results)
        times: dict[str, list[float]] = {}
        for job in jobs:
            if job.done and job.archived is None and job.status.get("epoch"):
                seconds = job.status["seconds"] / job.status["epoch"] / train_images(job.config)
                times.setdefault(key(job.config), []).append(seconds)
        self.measured = {name: sum(values) / len(values) for name, values in times.items()}

    def of(self, config: dict) -> Cost:
        images = train_images(config)
        evaluated = test_images(config) + config["dataset"]["validation"]
        per_epoch = images + EVALUATION * (evaluated + images * config["evaluate_train"])
        flop = 6 * multiply_adds(json.dumps(_network(config)))
        name = key(config)
        if name in self.measured:
            per_image, source = self.measured[name], "measured"
        elif name in self.calibration:
            per_image, source = self.calibration[name]["seconds_per_image"], "calibrated"
        else:
            per_image, source = flop / (CPU_THREAD * config["threads"]), "arithmetic"
        whole = per_epoch * config["epochs"]
        return Cost(whole * per_image, source, whole * flop / GPU)


def train_images(config: dict) -> int:
    return (config["dataset"]["subset"] or _sizes(config)[0]) - config["dataset"]["validation"]


def test_images(config: dict) -> int:
    return config["dataset"]["test_subset"] or _sizes(config)[1]


def _sizes(config: dict) -> list[int]:
    name, sizes = config["dataset"]["name"], config["dataset"]["sizes"]
    if not sizes:
        raise ConfigError(
            f"dataset.sizes=[]: configs/dataset/{name}.yaml must say how many images there are, [train, test]"
        )
    return sizes


def key(config: dict) -> str:
    """What the time of an image depends on: network, data shape, batch, optimizer, precision, threads."""
    parts = _network(config) | {name: config[name] for name in ("batch_size", "precision", "threads", "device")}
    return json.dumps(parts | {"optimizer": config["optimizer"]["name"]}, sort_keys=True)


def _network(config: dict) -> dict:
    model = {name: value for name, value in config["model"].items() if name not in ("init", "summary")}
    return {"model": model} | {name: config["dataset"][name] for name in ("image_shape", "num_classes")}


@functools.cache
def multiply_adds(network: str) -> int:
    """Of one image, forward; network: JSON of what _network says."""
    import torch  # which takes seconds to import, and what is measured does not need it

    from models.size import measured
    from training.build import make_network

    parts = json.loads(network)
    kind = schema.MODELS.get(parts["model"]["name"], schema.OtherModel)
    spec = schema.build(parts["model"] | {"init": "torch"}, kind)
    with torch.device("meta"):
        built = make_network(spec, parts["image_shape"], parts["num_classes"]).eval()
    return measured(built, parts["image_shape"])[1]


def workers(launcher: dict) -> int:
    """How many runs a configured Hydra launcher trains at a time on this machine."""
    jobs = launcher.get("n_jobs", 1)
    return jobs if jobs > 0 else os.cpu_count() or 1


def read_calibration(results: Path) -> dict:
    """Seconds an image by `key`, if they were measured on a machine like this one. Raises DamagedFile."""
    try:
        advice = "delete it, and for better estimates run: python sweep.py calibrate=true"
        content = read_json(results / "calibration.json", advice, machine=dict, networks=dict)
    except FileNotFoundError:
        return {}
    return content["networks"] if content["machine"] == _machine() else {}


def calibrate(jobs, results: Path) -> Path:
    """Time a few steps of each distinct network of the jobs on this machine; returns the file written."""
    from tqdm import tqdm

    known = read_calibration(results)
    todo = {key(job.config): job for job in jobs if key(job.config) not in known}
    make_folder(results)
    for name, job in tqdm(todo.items(), unit="network", disable=None):
        found = _time_steps(job)
        print(f"{job.config['model']['name']}, {job.config['optimizer']['name']}: "
              f"{1000 * found['seconds_per_image']:.2f} ms an image")  # fmt: skip
        with locked(results):
            networks = read_calibration(results) | {name: found}
            write_json(results / "calibration.json", {"machine": _machine(), "networks": networks})
    return results / "calibration.json"


def _time_steps(job) -> dict:
    import torch

    from runs.schema import build
    from training.device import choose_device, configure
    from training.trainer import Trainer

    config = build(job.config)
    device = choose_device(config.device)
    configure(config, device)
    products = multiply_adds(json.dumps(_network(job.config)))
    batch = int(min(config.batch_size, max(4, CALIBRATED_PRODUCTS // products)))
    config.batch_size = batch
    trainer = Trainer(config, device, images=10 * batch)
    inputs = torch.randn(batch, *config.dataset.image_shape, device=device)
    labels = torch.arange(batch, device=device) % config.dataset.num_classes
    times = []
    for _ in range(4):
        started = time.perf_counter()
        trainer.train_step(inputs, labels)
        trainer.sums.tolist()  # waits for the device
        times.append(time.perf_counter() - started)
    return {"seconds_per_image": min(times[1:]) / batch, "batch": batch}


def _machine() -> dict:
    import platform

    return {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
