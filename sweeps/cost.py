"""What a run will cost: estimated from runs that have ended, else from calibration, else from what gpu-check measured,
else from the number of multiply-adds, which gives a range.

Calibration times a few steps of each network on this machine; results/calibration.json keeps the times by device.
sweeps/networks.json has the sizes of the experiments' networks, results/networks.json those of others once they were
counted: a plan then does not need torch.
"""

import contextlib
import json
import math
import os
import platform
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from statistics import median

from runs import schema
from runs.files import locked, make_folder, read_json, write_json
from runs.schema import ConfigError

from .place import UNKNOWN_GPU, Place

COUNTED = Path(__file__).with_name("networks.json")
# Speeds for what was not measured: FLOP/s of a CPU thread (measured with a bottleneck ResNet), and of an H100-class GPU
# in float32 and in compiled bf16 at batch 128 (assumed, never measured here).
CPU_THREAD = 28e9
GPU, GPU_FAST = 20e12, 120e12
GPU_STEP = 1e-3  # shortest time of a step in seconds, since Python launches its kernels (assumed)
SPREAD = 4.0  # an estimate from multiply-adds may be wrong by this factor in either direction
EVALUATION = 1 / 3  # of a training step's multiply-adds: only the forward pass
CALIBRATION_SECONDS = 1.0  # of steps to time at least: one step of a small network says little on a busy machine
CALIBRATED_PRODUCTS = 16e9  # multiply-adds in a calibration batch on a CPU, which then takes seconds
FULL = 0.9  # of a GPU's memory that may be planned
MOST_PER_GPU = 8  # runs on a GPU; more would only wait for each other
BASE_GB = 3.0  # main memory of a process with torch and a data set of CIFAR's size


@dataclass
class Cost:
    """Seconds of one run that trains all its epochs on the planned device, and gpu_seconds on a GPU.

    source: measured, calibrated, gpu-check or arithmetic. spread: the factor by which it may be higher or lower.
    """

    seconds: float
    source: str
    gpu_seconds: float
    spread: float = 1.0


class Costs:
    """Estimates for the runs of a plan at a place; those of `jobs` that have ended serve as measurements."""

    def __init__(self, jobs, results: Path, place: Place):
        self.place, self.networks = place, Networks(results)
        calibration, checked = read_calibration(results), read_check(results)
        times: dict[tuple[str, str], list[float]] = {}
        for job in jobs:
            if job.done and job.archived is None and job.status.get("epoch"):
                seconds = job.status["seconds"] / job.status["epoch"] / train_images(job.config)
                device = job.status.get("environment", {}).get("device", "cpu")
                times.setdefault((device, key(job.config)), []).append(seconds)
        gpus = {device for device, _ in [*times, *calibration, *checked]} - {"cpu", "mps"}
        # If nothing names a cluster's GPUs and only one kind of GPU was measured, they are taken to be of that kind.
        self.device = gpus.pop() if place.device == UNKNOWN_GPU and len(gpus) == 1 else place.device
        self.measured = {one: sum(values) / len(values) for one, values in times.items()}
        self.calibration, self.checked = calibration, checked

    def of(self, config: dict) -> Cost:
        images = train_images(config)
        evaluated = test_images(config) * config["evaluations"] + config["dataset"]["validation"]
        whole = (images + EVALUATION * (evaluated + images * config["evaluate_train"])) * config["epochs"]
        name, spread = (self.device, key(config)), 1.0
        if name in self.measured:
            per_image, source = self.measured[name], "measured"
        elif name in self.calibration:
            per_image, source = self.calibration[name]["seconds_per_image"], "calibrated"
        elif (self.device, step_key(config)) in self.checked:
            per_image, source = 1 / self.checked[self.device, step_key(config)]["images_per_second"], "gpu-check"
        else:
            here = self.on_a_gpu(config) if self.place.on_gpu else self.flop(config) / CPU_THREAD / config["threads"]
            per_image, source, spread = here, "arithmetic", SPREAD
        seconds = whole * per_image
        return Cost(seconds, source, seconds if self.place.on_gpu else whole * self.on_a_gpu(config), spread)

    def on_a_gpu(self, config: dict) -> float:
        """Seconds an image on a GPU, by arithmetic alone."""
        fast = config["compile"] != "none" and config["precision"] in ("bf16", "fp16")
        return max(self.flop(config) / (GPU_FAST if fast else GPU), GPU_STEP / config["batch_size"])

    def flop(self, config: dict) -> float:
        """FLOP of one image in a training step."""
        return 6 * self.networks.size(config)[1]

    def share(self, config: dict) -> Fraction:
        """The share of a GPU that one run gets: from runs_per_gpu if given, else from the measured peak of memory."""
        if not self.place.gpus or config["launcher"]["gpus_per_run"] > 1:
            return Fraction(1)
        asked, gib = config["launcher"]["runs_per_gpu"], self.place.gpus[0].gib
        found = (
            self.calibration.get((self.device, key(config))) or self.checked.get((self.device, step_key(config))) or {}
        )
        if asked is None and gib and found.get("peak_gib"):
            most = max(1, min(MOST_PER_GPU, (os.cpu_count() or 1) // len(self.place.gpus)))
            asked = max(1, min(most, int(FULL * gib / found["peak_gib"])))
        return Fraction(1, asked or 1)

    def guessed(self, jobs) -> list:
        """The jobs whose network was never timed."""
        return [job for job in jobs if self.of(job.config).source == "arithmetic"]

    def disk_gb(self, config: dict) -> float:
        """What a run leaves on disk: two checkpoints, each with the weights and the optimizer's state."""
        optimizer, weights = config["optimizer"], 4 * self.networks.size(config)[0] / 1e9
        if config["keep"] != "all":
            return weights if config["keep"] == "weights" else 0.0
        kept = 2 if optimizer["name"] in ("adam", "adamw") else 0 if optimizer.get("momentum") == 0 else 1
        return 2 * (1 + kept) * weights


def memory_gb(config: dict, place: Place) -> int:
    """Main memory for a job in GB: for each process of the run, and on a CPU for the activations, too."""
    workers = config["dataset"]["workers"] if config["dataset"]["folder"] else 0
    activations = 0 if place.on_gpu else Networks(Path(config["results"])).size(config)[1] * config["batch_size"] / 2e10
    return math.ceil((BASE_GB + workers) * config["launcher"]["gpus_per_run"] + activations)


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
    """What the time for an image on a device depends on: network, data shape, batch, numerics, threads, optimizer."""
    return json.dumps(
        _step(config) | {"threads": config["threads"], "optimizer": config["optimizer"]["name"]}, sort_keys=True
    )


def step_key(config: dict) -> str:
    """As `key`, without threads and optimizer, which hardly matter on a GPU."""
    return json.dumps(_step(config), sort_keys=True)


def _step(config: dict) -> dict:
    return _network(config) | {name: config[name] for name in ("batch_size", "precision", "compile")}


def _network(config: dict) -> dict:
    model = {name: value for name, value in config["model"].items() if name not in ("init", "summary")}
    return {"model": model} | {name: config["dataset"][name] for name in ("image_shape", "num_classes")}


class Networks:
    """Parameters and multiply-adds of networks: in git for the experiments' own, else counted once and kept."""

    def __init__(self, results: Path):
        self.path = results / "networks.json"
        self.known = json.loads(COUNTED.read_text()) | self._read()

    def size(self, config: dict) -> list[int]:
        """(parameters, multiply-adds of one image, forward)"""
        name = json.dumps(_network(config), sort_keys=True)
        if name not in self.known:
            counted = _counted(_network(config))
            self.known[name] = counted
            with contextlib.suppress(OSError), locked(self.path.parent):  # a plan works without write permission
                write_json(self.path, {"sizes": self._read() | {name: counted}})
        return self.known[name]

    def _read(self) -> dict[str, list[int]]:
        return _read(self.path, "delete it", sizes=dict).get("sizes", {})


def _counted(network: dict) -> list[int]:
    import torch  # takes seconds

    from models.size import measured
    from training.build import make_network

    kind = schema.MODELS.get(network["model"]["name"], schema.OtherModel)
    spec = schema.build(network["model"] | {"init": "torch"}, kind)
    with torch.device("meta"):
        built = make_network(spec, network["image_shape"], network["num_classes"]).eval()
    return list(measured(built, network["image_shape"]))


def read_calibration(results: Path) -> dict[tuple[str, str], dict]:
    """What `calibrate` measured, by device and `key`; {} if on another kind of machine. Raises DamagedFile."""
    advice = "delete it, and for better estimates run: python sweep.py calibrate=true"
    content = _read(results / "calibration.json", advice, machine=dict, networks=dict)
    if content.get("machine") != _machine():
        return {}
    return {(entry["device"], entry["key"]): entry for entry in content["networks"].values() if "device" in entry}


def read_check(results: Path) -> dict[tuple[str, str], dict]:
    """Images per second and peak memory as measured by gpu-check, by device and `step_key`."""
    content = _read(results / "gpu_check.json", "delete it, and run: make gpu-check", gpu=str, models=dict)
    rows = [row for rows in content.get("models", {}).values() for row in rows.values()]
    return {(content["gpu"], row["step"]): row for row in rows if "step" in row and row.get("images_per_second")}


def _read(path: Path, advice: str, **kinds: type) -> dict:
    """As read_json, but {} if there is no file."""
    try:
        return read_json(path, advice, **kinds)
    except FileNotFoundError:
        return {}


def calibrate(jobs, results: Path, place: Place, quiet: bool = False) -> Path:
    """Time a few steps of each distinct network of the jobs on this machine; returns the file written."""
    from tqdm import tqdm

    known = read_calibration(results)
    todo = {key(job.config): job for job in jobs if (place.device, key(job.config)) not in known}
    make_folder(results)
    for name, job in tqdm(todo.items(), unit="network", desc="timing steps", disable=None):
        entry = {"device": place.device, "key": name, **_time_steps(job.config, place, results)}
        if not quiet:
            print(f"{job.config['model']['name']}, {job.config['optimizer']['name']}: "
                  f"{1000 * entry['seconds_per_image']:.2f} ms an image")  # fmt: skip
        with locked(results):
            networks = {f"{device} {one}": found for (device, one), found in read_calibration(results).items()}
            networks |= {f"{place.device} {name}": entry}
            write_json(results / "calibration.json", {"machine": _machine(), "networks": networks})
    return results / "calibration.json"


def _time_steps(plain: dict, place: Place, results: Path) -> dict:
    """Seconds per image; on a GPU for the real batch, with its peak memory, on a CPU for a batch that takes seconds."""
    import torch

    from runs.schema import build
    from training.device import choose_device, configure
    from training.trainer import Trainer

    config = build(plain)
    device = choose_device(config)
    configure(config, device)
    batch = config.batch_size
    if not place.on_gpu:
        products = Networks(results).size(plain)[1]
        batch = config.batch_size = int(min(batch, max(4, CALIBRATED_PRODUCTS // products)))
    trainer = Trainer(config, device, images=10 * batch)
    inputs = torch.randn(batch, *config.dataset.image_shape, device=device)
    labels = torch.arange(batch, device=device) % config.dataset.num_classes
    times = []
    while len(times) < (8 if place.on_gpu else 4) or sum(times[1:]) < CALIBRATION_SECONDS:
        started, trainer.step = time.perf_counter(), 0  # always the first of an epoch, with a full batch
        trainer.train_step(inputs, labels)
        trainer.sums.tolist()  # waits for the device
        times.append(time.perf_counter() - started)
    # The first step warms up. The median, since other programs slow the runs down, too, but not by single peaks.
    found = {"seconds_per_image": median(times[1:]) / batch, "batch": batch}
    if device.type == "cuda":
        found["peak_gib"] = torch.cuda.max_memory_reserved(device) / 2**30
    return found


def _machine() -> dict:
    return {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
