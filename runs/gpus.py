"""The GPUs of this machine, seen without torch."""

import functools
import os
import subprocess
from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    id: str  # as CUDA_VISIBLE_DEVICES takes it
    name: str
    gib: float | None = None


@functools.cache
def visible() -> tuple[Gpu, ...]:
    """The GPUs that a process would see through CUDA; none without a driver."""
    command = ["nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return ()
    found = []
    for line in lines:
        index, uuid, name, mib = (part.strip() for part in line.split(","))
        found.append((index, uuid, Gpu(index, name, float(mib) / 1024 if mib.isdecimal() else None)))
    asked = os.environ.get("CUDA_VISIBLE_DEVICES")
    if asked is None:
        return tuple(gpu for _, _, gpu in found)
    chosen = []
    for one in asked.split(",") if asked.strip() else []:
        matching = [gpu for index, uuid, gpu in found if one.strip() == index or uuid.startswith(one.strip())]
        if not matching and not one.strip().startswith("MIG-"):
            break  # as CUDA does: it ignores everything after an invalid id
        name, gib = (matching[0].name, matching[0].gib) if matching else (f"{found[0][2].name} MIG", None)
        chosen.append(Gpu(one.strip(), name, gib))
    return tuple(chosen)
