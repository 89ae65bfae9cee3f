"""Does the suite run on this machine's GPU? `make gpu-check`, under 8 minutes a GPU, without network.

Needs only torch, torchvision and numpy. First it checks what must hold: PowerSGD on the GPU agrees with the CPU; a
stopped and resumed training equals an uninterrupted one bit for bit; a short MNIST training learns (synthetic digits
if MNIST is not on disk); a compiled network has one graph for each of the two batch sizes; two GPUs have the same
weights after a step. Then it measures: the optimizer's step compared with SGD's, the input pipeline, and for every
network images per second and peak memory in each numerics, compared with a plain loop that uses the same ones.

The JSON file is written after each check; `plan=true` reads the measurements from it. A check that fails or raises does
not stop the others. Exit status 1 if one failed, 2 with fewer GPUs than --gpus.
"""

import argparse
import io
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch._dynamo.utils import counters

from data import mnist, synthetic
from data.augment import crop_flip, draw_crop_flip
from data.errors import DataError
from data.tensors import TensorDataset
from optimizers import PowerSGD
from runs import schema
from runs.files import write_json
from sweeps.cost import step_key
from training.build import build_model
from training.device import configure
from training.distributed import World
from training.trainer import AUTOCAST, Trainer

ROOT = Path(__file__).resolve().parent.parent
BUDGET_SECONDS = 450
CIFAR, IMAGENET = [3, 32, 32], [3, 224, 224]
MODELS = {
    "mlp": (schema.MLP(name="mlp", depth=13, width=256, init="torch"), [1, 28, 28], 10),
    "resnet50": (schema.ResNet(name="resnet50", blocks=[3, 4, 6, 3], width=64, init="torch"), CIFAR, 10),
    "densenet121": (schema.DenseNet(name="densenet121", blocks=[6, 12, 24, 16], growth=32, init="torch"), CIFAR, 10),
    "wrn26": (schema.WideResNet(name="wrn26", depth=26, widen=10, init="he_fan_out"), CIFAR, 100),
    "resnext29": (
        schema.ResNeXt(name="resnext29", depth=29, cardinality=16, width=64, stem=64, init="he_fan_out"),
        CIFAR,
        100,
    ),
    "resnet50_imagenet": (
        schema.ResNet(name="resnet50_imagenet", blocks=[3, 4, 6, 3], width=64, init="torch"),
        IMAGENET,
        1000,
    ),
}
SMALL = schema.ResNet(name="resnet50", blocks=[1, 1, 1, 1], width=16, init="torch")
NUMERICS = {
    "strict": {"precision": "fp32"},
    "tf32": {"precision": "tf32"},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
    "fast": {"precision": "bf16", "compile": "default"},
}
BATCH, ODD = 128, 80  # CIFAR's last batch of an epoch
STEPS, MLP_STEPS, WARMUP = 10, 100, 5
PIPELINE_IMAGES = 50000


def config_of(name: str, **changes) -> schema.Config:
    model, shape, classes = MODELS[name]
    dataset = schema.Dataset(
        name="synthetic",
        num_classes=classes,
        image_shape=shape,
        mean=[0.5] * shape[0],
        std=[0.25] * shape[0],
        augment="none",
    )
    powersgdm = schema.PowerSGD(
        name="powersgdm",
        lr=0.01,
        gamma=0.8,
        momentum=0.9,
        weight_decay=5e-4,
        lr_in_velocity=True,
        decay_after_power=True,
    )
    return schema.Config(
        dataset=dataset,
        model=model,
        optimizer=powersgdm,
        schedule=schema.Constant(name="constant"),
        epochs=1,
        batch_size=BATCH,
        seed=0,
        **changes,
    )


def batch_of(config: schema.Config, device) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(BATCH, *config.dataset.image_shape, generator=generator)
    return inputs.to(device), torch.randint(config.dataset.num_classes, (BATCH,), generator=generator).to(device)


def measured(step: Callable[[], Any], device: torch.device, steps: int) -> dict:
    """Images per second and peak memory of `step()`."""
    for _ in range(WARMUP):
        step()
    wait(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    for _ in range(steps):
        step()
    wait(device)
    seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_reserved(device) / 2**30 if device.type == "cuda" else 0.0
    return {"images_per_second": round(steps * BATCH / seconds, 1), "peak_gib": round(peak, 3)}


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ours(name: str, device: torch.device, **changes) -> dict:
    config = config_of(name, **changes)
    configure(config, device)
    trainer = Trainer(config, device, images=BATCH * 10**6)
    inputs, labels = batch_of(config, device)
    result = measured(lambda: trainer.train_step(inputs, labels), device, MLP_STEPS if name == "mlp" else STEPS)
    return result | {"finite": bool(trainer.sums.isfinite().all()), "step": step_key(asdict(config))}


def plain(name: str, device: torch.device, **changes) -> dict:
    """What most people would write: SGD, loss.item() every step; with the same numerics and kernel settings."""
    config = config_of(name, deterministic=False, **changes)
    configure(config, device)
    network = build_model(config).to(device)
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    called = torch.compile(network, mode=config.compile) if config.compile != "none" else network
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, weight_decay=5e-4)
    scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
    dtype = AUTOCAST.get(config.precision)
    inputs, labels = batch_of(config, device)
    inputs = inputs.contiguous(memory_format=torch.channels_last)

    def step():
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype) if dtype else nullcontext():
            loss = F.cross_entropy(called(inputs), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        loss.item()

    return measured(step, device, MLP_STEPS if name == "mlp" else STEPS)


def resume_is_exact(device, precision: str) -> bool:
    """Compares six steps with three steps, a checkpoint through torch.save, and three more."""
    small = config_of("resnet50", precision=precision)
    small.model = SMALL
    configure(small, device)
    batches = [batch_of(small, device) for _ in range(6)]

    def trained(trainer, part):
        for inputs, labels in part:
            trainer.train_step(inputs, labels)
        return trainer

    whole = trained(Trainer(small, device, BATCH * 100), batches)
    first = trained(Trainer(small, device, BATCH * 100), batches[:3])
    buffer = io.BytesIO()
    torch.save(first.state_dict(), buffer)
    buffer.seek(0)
    second = Trainer(small, device, BATCH * 100)
    second.restore(torch.load(buffer, map_location="cpu", weights_only=True))
    trained(second, batches[3:])
    pairs = zip(whole.model.state_dict().values(), second.model.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs) and torch.equal(whole.sums, second.sums)


def optimizer_difference(device) -> float:
    """Largest relative difference between weights on GPU and CPU after 100 steps on the same gradients."""
    worst = 0.0
    for gamma in (0.0, 0.4, 0.5, 1.0):
        for kind in ("loop", "foreach", "fused"):
            weights = {d: torch.nn.Parameter(torch.linspace(-1, 1, 3001).to(d)) for d in ("cpu", device)}
            optimizers = {
                d: PowerSGD(
                    [w], 1e-3, gamma, 0.9, 1e-2, foreach=kind == "foreach" and d != "cpu", fused=kind == "fused"
                )
                for d, w in weights.items()
            }
            generator = torch.Generator().manual_seed(1)
            for _ in range(100):
                gradient = torch.randn(3001, generator=generator)
                for d, w in weights.items():
                    w.grad = gradient.to(d)
                    optimizers[d].step()
            a, b = weights["cpu"].detach(), weights[device].detach().cpu()
            worst = max(worst, ((a - b).abs() / a.abs().clamp(min=1e-3)).max().item())
    return worst


def short_mnist(device, root: Path) -> dict:
    """Test accuracy of a 3-layer network after three epochs; on synthetic digits if MNIST is not on disk."""
    try:
        if not (root / "MNIST").is_dir():
            raise DataError("not on disk")
        sets = [mnist.load(root, train) for train in (True, False)]
        data = "mnist"
    except DataError:
        sets = [synthetic.load(train, image_shape=[1, 28, 28], num_classes=10, size=12800) for train in (True, False)]
        data = "synthetic"
    train_set, test_set = (TensorDataset(*s, num_classes=10, mean=[0.0], std=[1.0], device=device) for s in sets)
    config = config_of("mlp")
    config.model = schema.MLP(name="mlp", depth=3, width=256, init="torch")
    config.optimizer = schema.PowerSGD(
        name="powersgd", lr=0.01, gamma=0.6, momentum=0.0, weight_decay=0.0, lr_in_velocity=True, decay_after_power=True
    )
    configure(config, device)
    trainer = Trainer(config, device, len(train_set))
    for epoch in range(3):
        trainer.step = 0
        for inputs, labels in train_set.epoch(0, epoch, BATCH):
            trainer.train_step(inputs, labels)
    accuracy = trainer.evaluate(test_set).acc
    return {"data": data, "test_acc": accuracy, "learned": accuracy > (0.9 if data == "mnist" else 0.8)}


def graphs_of_an_odd_batch(device: torch.device) -> int:
    """How many graphs a compiled network has after two epochs' batches of both sizes."""
    config = config_of("resnet50", precision="bf16", compile="default")
    config.model = SMALL
    configure(config, device)
    torch._dynamo.reset()
    counters.clear()
    trainer = Trainer(config, device, BATCH * 100)
    inputs, labels = batch_of(config, device)
    for size in (BATCH, ODD, BATCH, ODD):
        trainer.train_step(inputs[:size], labels[:size])
    if not trainer.sums.isfinite().all():
        raise ArithmeticError("a loss that is not finite")
    return counters["stats"]["unique_graphs"]


def optimizer_step(device: torch.device) -> dict:
    """Microseconds per step for ResNet-50's parameters: PowerSGDM with default settings and fused, and SGDM."""
    network = build_model(config_of("resnet50")).to(device)
    for p in network.parameters():
        p.grad = torch.randn_like(p)
    found = {}
    makers: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
        "sgd": lambda params: torch.optim.SGD(params, 1e-6, momentum=0.9, weight_decay=5e-4)
    }
    for gamma, fused in itertools.product((0.0, 0.5, 0.8, 1.0), (False, True)):
        name = f"gamma {gamma:g}" + ", fused" * fused
        makers[name] = lambda params, g=gamma, f=fused: PowerSGD(params, 1e-6, g, 0.9, 5e-4, fused=f)
    for name, make in makers.items():
        rate = measured(make(network.parameters()).step, device, STEPS)["images_per_second"]
        found[name] = round(1e6 * BATCH / rate, 1)
    return found


def input_pipeline(device: torch.device) -> dict:
    """Images per second of CIFAR's crop, flip and normalisation in the device's memory, without a network."""
    images = torch.randint(256, (PIPELINE_IMAGES, *CIFAR), dtype=torch.uint8)
    data = TensorDataset(
        images, torch.zeros(len(images), dtype=torch.int64), num_classes=10, mean=[0.5] * 3, std=[0.25] * 3,
        augment=crop_flip, draw=draw_crop_flip, device=device,
    )  # fmt: skip
    start = time.perf_counter()
    for inputs, _ in data.epoch(0, 0, BATCH):
        last = inputs
    finite = bool(last.isfinite().all())  # waits for the device
    return {"images_per_second": round(PIPELINE_IMAGES / (time.perf_counter() - start)), "finite": finite}


def two_devices_agree(backend: str = "nccl") -> bool:
    """Whether two processes, each with half of the batch, have the same weights after three steps."""
    with torch.multiprocessing.get_context("spawn").Manager() as manager:
        found = manager.dict()
        torch.multiprocessing.spawn(_one_of_two, (backend, _free_port(), found), nprocs=2)  # pyright: ignore
        return found[0] == found[1]


def _one_of_two(rank: int, backend: str, port: int, found) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2"}
    device = torch.device("cuda", rank) if backend == "nccl" else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    config = config_of("resnet50")
    config.model = SMALL
    configure(config, device)
    dist.init_process_group(backend)
    trainer = Trainer(config, device, BATCH * 100, World(rank, 2, rank))
    inputs, labels = (part.tensor_split(2)[rank] for part in batch_of(config, device))
    for _ in range(3):
        trainer.train_step(inputs, labels)
    found[rank] = [p.double().sum().item() for p in trainer.model.parameters()]
    dist.destroy_process_group()


def _free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Check(NamedTuple):
    name: str
    call: Callable[[], Any]
    good: Callable[[Any], bool] = lambda result: True
    model: str | None = None  # the network that it measures


def checks(device: torch.device, data: Path) -> Iterator[Check]:
    """All checks; first those that tell whether results can be trusted."""
    yield Check("optimizer_difference", lambda: optimizer_difference(device), lambda worst: worst < 1e-4)
    for precision in ("fp32", "tf32", "bf16", "fp16"):
        yield Check(
            f"resume_exact_{precision}", lambda p=precision: resume_is_exact(device, p), lambda same: same is True
        )
    yield Check("short_training", lambda: short_mnist(device, data), lambda result: result["learned"])
    yield Check("graphs_of_an_odd_batch", lambda: graphs_of_an_odd_batch(device), lambda count: count == 2)
    if torch.cuda.device_count() > 1 and device.type == "cuda":
        yield Check("two_gpus", two_devices_agree, lambda same: same is True)
    yield Check("optimizer_step", lambda: optimizer_step(device))
    yield Check("input_pipeline", lambda: input_pipeline(device), lambda result: result["finite"])
    for name in MODELS:
        for numerics, changes in NUMERICS.items():
            yield Check(numerics, lambda n=name, c=changes: ours(n, device, **c), lambda result: result["finite"], name)
            yield Check(f"plain_{numerics}", lambda n=name, c=changes: plain(n, device, **c), model=name)


def run(all_checks, report: dict, path: Path, budget: float) -> dict:
    """Carry out the checks and write each to the file at once; names those for which there was no time."""
    started = time.monotonic()
    report |= {"models": {}, "failures": [], "skipped": []}
    for check in all_checks:
        name = f"{check.model} {check.name}" if check.model else check.name
        where = report["models"].setdefault(check.model, {}) if check.model else report
        if time.monotonic() - started > budget:
            report["skipped"].append(name)
            continue
        try:
            where[check.name] = check.call()
            failed = not check.good(where[check.name])
        except Exception as error:  # one failure must not hide the others
            where[check.name] = {"error": f"{type(error).__name__}: {(str(error).splitlines() or ['no message'])[0]}"}
            failed = True
        report["failures"] += [name] * failed
        report["seconds"] = round(time.monotonic() - started, 1)
        write_json(path, report)
        print(name, where[check.name], "FAILED" if failed else "", flush=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    write_json(path, report)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=ROOT / "results" / "gpu_check.json")
    parser.add_argument("--data", type=Path, default=os.environ.get("POWERSGD_DATA", ROOT / "downloads"))
    parser.add_argument("--gpus", type=int, help="check so many, each in a process of its own; else the first")
    parser.add_argument("--once", action="store_true", help="not again where all was well with this GPU and torch")
    parser.add_argument("--seconds", type=float, default=BUDGET_SECONDS)
    arguments = parser.parse_args()
    found = torch.cuda.device_count()
    if found < (arguments.gpus or 1):
        print(f"gpu-check: no CUDA GPU here, or fewer than asked for ({found}); nothing was checked")
        sys.exit(2 if arguments.gpus else 0)
    about = {"gpu": torch.cuda.get_device_name(0), "torch": torch.__version__, "cuda": torch.version.cuda}
    if arguments.once and _was_well(arguments.json, about):
        print(f"gpu-check: all was well before; {arguments.json}")
        return
    others = [_other(number, arguments) for number in range(1, arguments.gpus or 1)]
    device = torch.device("cuda:0")
    report = run(checks(device, Path(arguments.data)), about, arguments.json, arguments.seconds)
    failures = report["failures"] + [f"GPU {number}" for number, other in enumerate(others, 1) if other.wait()]
    print(f"gpu-check: {'FAILED: ' + ', '.join(failures) if failures else 'all well'}; {arguments.json}")
    sys.exit(bool(failures))


def _was_well(path: Path, about: dict) -> bool:
    try:
        before = json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return not before.get("failures", True) and all(before.get(key) == value for key, value in about.items())


def _other(number: int, arguments) -> subprocess.Popen:
    """The same checks on another GPU, in parallel."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(torch.cuda.device_count())))).split(",")
    path = arguments.json.with_stem(f"{arguments.json.stem}-{number}")
    command = [sys.executable, "-m", "benchmarks.gpu_check", "--json", str(path), "--data", str(arguments.data)]
    command += ["--seconds", str(arguments.seconds)]
    return subprocess.Popen(
        command, env=os.environ | {"CUDA_VISIBLE_DEVICES": visible[number]}, stdout=subprocess.DEVNULL
    )


if __name__ == "__main__":
    main()
