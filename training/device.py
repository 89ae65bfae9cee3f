"""Where a run computes, and what is recorded of it."""

import functools
import platform
import subprocess
from pathlib import Path

import torch
from torch import nn

from .config import ConfigError


def choose_device(name: str) -> torch.device:
    """ "auto" takes CUDA, then MPS, then the CPU; a device that is not there raises ConfigError."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device={name} cannot be used here: {str(error).splitlines()[0]}") from None
    return device


def environment(device: torch.device) -> dict:
    """What the bits of a run may depend on besides its config; compared when it resumes."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "world_size": 1,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": _commit(),
    }


def first_weight(model: nn.Module) -> nn.Parameter:
    """The weight matrix or kernel of the first layer, whose gradient figure 2(b) shows."""
    return next(p for p in model.parameters() if p.dim() > 1)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


@functools.cache
def _commit() -> str | None:
    """The commit of this code, with + if tracked files were changed since; None outside git."""
    try:
        git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=12", "--dirty=+"]
        return subprocess.run(git, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
