"""Fixtures for all tests: one thread, a made-up MNIST, and the real one."""

import os
from pathlib import Path

import pytest
import torch

from data import mnist
from data.errors import DataError
from training import build

from .helpers import ROOT, write_fake_mnist

torch.set_num_threads(1)  # the bits of a run depend on it, and test processes share the cores


@pytest.fixture(autouse=True)
def data_is_read_anew():
    build.read_split.cache_clear()
    build.files_fingerprint.cache_clear()


@pytest.fixture
def fake_mnist(tmp_path, monkeypatch) -> Path:
    """A folder of made-up data, where make_config(tmp_path) looks for it."""
    for name, md5 in write_fake_mnist(tmp_path / "mnist").items():
        monkeypatch.setitem(mnist.FILES, name, md5)
    return tmp_path / "mnist"


@pytest.fixture(scope="session")
def real_mnist() -> Path:
    """The folder that holds the verified MNIST, fetched once by the project's own code."""
    folder = Path(os.environ.get("POWERSGD_DATA") or ROOT / "downloads")
    try:
        mnist.fetch(folder)
    except DataError as error:
        pytest.skip(f"needs the real MNIST: {error}")
    return folder
