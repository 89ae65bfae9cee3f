"""The device that a run uses, and what is recorded about it."""

import functools
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

import torch

from runs.schema import MLP, MODELS, Config, ConfigError

from .distributed import World


def choose_device(config: Config, world: World = World()) -> torch.device:  # noqa: B008
    """ "auto" takes CUDA, then MPS, then the CPU, except for the paper's large networks.

    Raises ConfigError if only a CPU is left for one of those, and for a device that does not exist.
    """
    name = config.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        large = MODELS.get(config.model.name, MLP) is not MLP
        if name == "cpu" and large and config.tier == "paper":
            raise ConfigError(
                f"device=auto finds no GPU, and tier=paper trains {config.model.name} on one; set device=cpu to use "
                "the CPU anyway, or tier=laptop, which is made for a CPU"
            )
    if name == "cuda":
        name = f"cuda:{world.local_rank}"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device={name} cannot be used here: {str(error).splitlines()[0]}") from None
    if device.type == "meta":
        raise ConfigError("device=meta computes no values; use auto, cpu, cuda or mps")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def configure(config: Config, device: torch.device) -> None:
    """Apply the config's process-wide torch settings. Raises ConfigError if the device does not support them."""
    cores = os.cpu_count() or 1
    if config.threads > cores:
        raise ConfigError(f"threads={config.threads}: this machine has {cores} cores")
    torch.set_num_threads(config.threads)
    if device.type == "cpu":
        _reserve_for_products()
    if config.precision == "tf32" and device.type != "cuda":
        raise ConfigError(f"precision=tf32 needs a CUDA device, not {device.type}; use fp32")
    if config.precision == "fp16" and device.type == "mps":
        raise ConfigError("precision=fp16 needs CUDA or the CPU, not MPS; use fp32")
    if device.type == "cuda":
        tf32 = config.precision == "tf32"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        if config.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(config.deterministic, warn_only=True)
        # Otherwise torch fills every uninitialised tensor first; nothing here reads memory that it has not written.
        torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
        # Each of the kernels that it chooses from gives the same bits twice, but another process may choose another.
        torch.backends.cudnn.benchmark = config.cudnn_benchmark or not config.deterministic


@functools.cache
def _reserve_for_products() -> None:
    """Let MKL allocate its buffers before training: without memory for them it silently takes kernels with other bits.

    A process keeps these buffers; they suffice for products of 1,024 rows and columns. Raises RuntimeError if 128 MiB
    are not free.
    """
    torch.empty(2**27, dtype=torch.uint8)
    square = torch.ones(1024, 1024)
    torch.mm(square, square)


def environment(config: Config, device: torch.device, world: World = World()) -> dict:  # noqa: B008
    """What a run's exact result may depend on besides its config; compared when the run resumes."""
    found = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "world_size": world.size,
        "accumulate": config.accumulate,
        "numerics": numerics(config),
        "channels_last": config.channels_last,
        "compile": config.compile,
        "deterministic": config.deterministic,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": _commit(),
    }
    if device.type == "cuda":
        found["cudnn_benchmark"] = torch.backends.cudnn.benchmark
    return found


def numerics(config: Config) -> str:
    """strict (float32), fast (bf16, compiled, channels_last); otherwise the precision, and "compiled" if it is."""
    compiled = config.compile != "none"
    if config.precision == "fp32" and not compiled:
        return "strict"
    if config.precision == "bf16" and compiled and config.channels_last:
        return "fast"
    return config.precision + ", compiled" * compiled


def memory(device: torch.device) -> float:
    """Peak memory use so far in gigabytes: of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


@functools.cache
def _commit() -> str | None:
    """The commit of this code, with + if tracked files have changed since; None outside git."""
    try:
        git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=12", "--dirty=+"]
        return subprocess.run(git, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
