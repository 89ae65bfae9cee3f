"""Does the suite run on this machine's GPU? `make gpu-check`, under 8 minutes, without network.

Needs torch, torchvision and numpy, nothing else. Every network trains a few steps in fp32, bf16 and fp16, two of
them compiled too; images a second and peak memory are given beside a plain loop (NCHW, float32, loss.item() every
step). Then: a stopped and resumed training must equal an uninterrupted one bit for bit, PowerSGD on the GPU must
agree with the CPU, and a short MNIST training must learn (skipped where the data set is not on disk). Writes one
JSON file. Without a GPU it says so and exits 0. Exit status 1 if a check fails.
"""

import argparse
import io
import json
import os
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from data import mnist, synthetic
from data.errors import DataError
from data.tensors import TensorDataset
from optimizers import PowerSGD
from runs import schema
from training.build import build_model
from training.device import configure
from training.trainer import Trainer

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
COMPILED = {"mlp": "reduce-overhead", "resnet50": "default"}
BATCH = 128


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


def measured(step, device, steps: int, warmup: int) -> dict:
    """Images a second and peak memory of `step()`."""
    for _ in range(warmup):
        step()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    for _ in range(steps):
        step()
    torch.cuda.synchronize(device)
    seconds = time.perf_counter() - start
    return {
        "images_per_second": round(steps * BATCH / seconds, 1),
        "peak_gib": round(torch.cuda.max_memory_allocated(device) / 2**30, 3),
    }


def ours(name: str, device, steps: int, **changes) -> dict:
    config = config_of(name, **changes)
    configure(config, device)
    trainer = Trainer(config, device, images=BATCH * 10**6)
    inputs, labels = batch_of(config, device)
    result = measured(lambda: trainer.train_step(inputs, labels), device, steps, warmup=5)
    result["finite"] = bool(trainer.sums.isfinite().all())
    return result


def plain(name: str, device, steps: int) -> dict:
    config = config_of(name, channels_last=False)
    configure(config, device)
    network = build_model(config).to(device)
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, weight_decay=5e-4)
    inputs, labels = batch_of(config, device)

    def step():
        optimizer.zero_grad()
        loss = F.cross_entropy(network(inputs), labels)
        loss.backward()
        optimizer.step()
        loss.item()

    return measured(step, device, steps, warmup=3)


def resume_is_exact(device, precision: str) -> bool:
    """Six steps against three, a checkpoint through torch.save, and three more."""
    small = config_of("resnet50", precision=precision)
    small.model = schema.ResNet(name="resnet50", blocks=[1, 1, 1, 1], width=16, init="torch")
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
    """Largest relative difference of weights after 100 steps on the same gradients, GPU against CPU."""
    worst = 0.0
    for gamma in (0.0, 0.4, 0.5, 1.0):
        for foreach in (False, True):
            weights = {d: torch.nn.Parameter(torch.linspace(-1, 1, 3001).to(d)) for d in ("cpu", device)}
            optimizers = {
                d: PowerSGD([w], 1e-3, gamma, 0.9, 1e-2, foreach=foreach and d != "cpu") for d, w in weights.items()
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
    """Test accuracy of a 3-layer network after three epochs; made-up digits where MNIST is not on disk."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=ROOT / "results" / "gpu_check.json")
    parser.add_argument("--data", type=Path, default=os.environ.get("POWERSGD_DATA", ROOT / "downloads"))
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("gpu-check: no CUDA GPU here; nothing was checked")
        return
    device, started = torch.device("cuda:0"), time.monotonic()
    report = {"gpu": torch.cuda.get_device_name(device), "torch": torch.__version__, "cuda": torch.version.cuda}
    report |= {"models": {}, "skipped": []}

    def attempt(where: dict, key: str, call) -> None:
        if time.monotonic() - started > BUDGET_SECONDS:
            report["skipped"].append(key)
            return
        try:
            where[key] = call()
        except Exception as error:  # one failure must not hide the other checks
            where[key] = {"error": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
        print(key, where[key], flush=True)
        torch.cuda.empty_cache()

    attempt(report, "optimizer_difference", lambda: optimizer_difference(device))
    for precision in ("fp32", "bf16", "fp16"):
        attempt(report, f"resume_exact_{precision}", lambda p=precision: resume_is_exact(device, p))
    attempt(report, "short_training", lambda: short_mnist(device, arguments.data))
    for name in MODELS:
        rows = report["models"].setdefault(name, {})
        steps = 100 if name == "mlp" else 10
        attempt(rows, "plain", lambda n=name, s=steps: plain(n, device, s))
        for precision in ("fp32", "bf16", "fp16"):
            attempt(rows, precision, lambda n=name, s=steps, p=precision: ours(n, device, s, precision=p))
    for name, mode in COMPILED.items():
        rows = report["models"][name]
        attempt(rows, f"compiled_{mode}", lambda n=name, m=mode: ours(n, device, 50, precision="bf16", compile=m))

    failures = [k for k, v in report.items() if isinstance(v, dict) and "error" in v]
    for name, rows in report["models"].items():
        failures += [f"{name} {k}" for k, v in rows.items() if "error" in v or not v.get("finite", True)]
    failures += [k for k in report if k.startswith("resume_exact") and report[k] is not True]
    failures += ["optimizer_difference"] if not report.get("optimizer_difference", 1) < 1e-4 else []
    failures += ["short_training"] if not report.get("short_training", {}).get("learned") else []
    report |= {"failures": failures, "seconds": round(time.monotonic() - started, 1)}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    print(f"gpu-check: {'FAILED: ' + ', '.join(failures) if failures else 'all well'}; {arguments.json}")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
