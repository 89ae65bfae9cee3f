"""What a launcher trains on, found without torch: which GPUs or cores, of what kind, how many runs at a time."""

import os
import platform
from dataclasses import dataclass

from runs.gpus import Gpu, visible
from runs.schema import ConfigError

UNKNOWN_GPU = "GPU"  # on a cluster, if nothing says which kind


@dataclass(frozen=True)
class Place:
    """device: its name, by which times are looked up; slots: how many GPUs, or runs on a CPU, work at a time."""

    device: str
    slots: int
    gpus: tuple[Gpu, ...] = ()  # those of this machine that the launcher distributes runs over

    @property
    def on_gpu(self) -> bool:
        return self.device not in ("cpu", "mps")


def place(config: dict) -> Place:
    """Where the launcher of a plain config would train.

    Raises ConfigError if it asks for more GPUs than this machine or a job has; plan=true may do the former.
    """
    launcher, device = config["launcher"], config["device"]
    name, asked, together = launcher["name"], launcher["gpus"], launcher["gpus_per_run"]
    if together > 1 and name == "here":
        raise ConfigError(f"launcher.gpus_per_run={together}: launcher=local, ray and slurm do that, here does not")
    if name == "slurm":
        if 0 < jobs_gpus(config) < together:
            raise ConfigError(
                f"launcher.gpus_per_node={launcher['gpus_per_node']}: launcher.gpus_per_run={together} needs as many"
            )
        return Place(_remote(launcher) if jobs_gpus(config) else "cpu", launcher["array"] * together)
    if name == "ray" and launcher["address"]:
        on_gpu = device not in ("cpu", "mps") and asked != 0
        return Place(_remote(launcher) if on_gpu else "cpu", asked or launcher["cpus"] or 1)
    wanted = device not in ("cpu", "mps")
    gpus = visible() if wanted or asked else ()
    if name == "here":
        gpus = gpus[:1]
    elif asked is not None:
        if wanted and asked > len(gpus) and config["plan"]:
            return Place(gpus[0].name if gpus else UNKNOWN_GPU, asked)
        if wanted and asked > len(gpus):
            raise ConfigError(
                f"launcher.gpus={asked}: this machine shows {len(gpus)} GPUs (nvidia-smi, CUDA_VISIBLE_DEVICES); "
                f"device=cpu tries out the placement without GPUs"
            )
        gpus = gpus[:asked] if wanted else tuple(Gpu(str(number), "cpu") for number in range(asked))
    workers = launcher["workers"] or launcher["cpus"] or os.cpu_count() or 1
    if together > (len(gpus) or workers) and not config["plan"]:
        raise ConfigError(f"launcher.gpus_per_run={together}: there are {len(gpus) or workers}")
    if gpus:
        return Place(gpus[0].name, len(gpus), gpus)
    return Place(_without_gpu(device), 1 if name == "here" else workers)


def placed_device(config: dict, place: Place) -> str:
    """The `device` setting of a run there; a run that is given a GPU never falls back to the CPU."""
    return "cuda" if config["device"] == "auto" and place.on_gpu else config["device"]


def jobs_gpus(config: dict) -> int:
    """GPUs for each job on a cluster."""
    asked, together = config["launcher"]["gpus_per_node"], config["launcher"]["gpus_per_run"]
    return (0 if config["device"] == "cpu" else together) if asked is None else asked


def run_cores(config: dict) -> int:
    """Cores for the threads and decoding processes of one run, which may be several processes itself."""
    decoding = config["dataset"]["workers"] if config["dataset"]["folder"] else 0
    return (config["threads"] + decoding) * config["launcher"]["gpus_per_run"]


def _remote(launcher: dict) -> str:
    return launcher["gpu"] or UNKNOWN_GPU


def _without_gpu(device: str) -> str:
    apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    return "mps" if device == "mps" or (device == "auto" and apple) else "cpu"
