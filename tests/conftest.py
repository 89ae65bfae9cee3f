"""Fixtures for all tests: one thread, a made-up MNIST, and the real one."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from data import mnist
from data.errors import DataError
from training import build, wandb_session

from .helpers import ROOT, write_fake_mnist
from .wandb_stub import KEY, Server

# A shell's background job ignores Ctrl-C, nohup a closed terminal; the tests are about what is heard.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

torch.set_num_threads(1)  # the bits of a run depend on it, and test processes share the cores


def pytest_collection_modifyitems(items) -> None:
    """What starts W&B's service has two minutes, as tests that start programs have."""
    for item in items:
        if "no_account" in item.fixturenames and not item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(120))


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


@pytest.fixture
def no_account(tmp_path, monkeypatch):
    """Nothing of this machine's W&B account is seen, and what W&B remembers in this process is forgotten."""
    for name in os.environ:
        if name.startswith("WANDB_") or name == "NETRC":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_SILENT", "true")
    (tmp_path / "home").mkdir()
    wandb_session._silences.clear()
    yield
    if hasattr(sys.modules.get("wandb"), "teardown"):
        sys.modules["wandb"].teardown()


@pytest.fixture
def server(no_account, monkeypatch) -> Iterator[Server]:
    """A W&B server on this machine, and an account there. It answers at once, so no test waits for it."""
    for name in ("PROBE_SECONDS", "INIT_SECONDS", "SECOND_INIT_SECONDS", "FINISH_SECONDS"):
        monkeypatch.setattr(wandb_session, name, 60)
    with Server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        yield server
