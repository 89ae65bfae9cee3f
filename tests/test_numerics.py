"""What a step computes with: kernels without needless work, and graphs of fixed sizes."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from training import build
from training.device import configure
from training.trainer import Trainer

from .helpers import make_config

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def settings_kept():
    deterministic, fill = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic
    before = fill.fill_uninitialized_memory, torch.backends.cudnn.benchmark
    yield
    torch.use_deterministic_algorithms(deterministic)
    fill.fill_uninitialized_memory, torch.backends.cudnn.benchmark = before


def fills() -> int:
    with profile(activities=[ProfilerActivity.CPU]) as found:
        torch.empty(1000)
    return sum(event.key == "aten::fill_" for event in found.key_averages())


def test_deterministic_kernels_do_not_fill_what_is_written_anyway(tmp_path, settings_kept):
    configure(make_config(tmp_path, device="cuda"), GPU)
    assert torch.are_deterministic_algorithms_enabled() and fills() == 0
    torch.utils.deterministic.fill_uninitialized_memory = True
    assert fills() == 1  # so the above says something


def test_a_compiled_step_has_a_graph_for_each_of_its_two_batch_sizes(tmp_path, monkeypatch):
    graphs, compiled = [], torch.compile

    def counting(graph, inputs):
        graphs.append([getattr(x, "shape", None) for x in inputs if not isinstance(x, torch.nn.Parameter)])
        return graph.forward

    monkeypatch.setattr(build.torch, "compile", lambda net, mode, **options: compiled(net, backend=counting, **options))
    torch._dynamo.reset()
    trainer = Trainer(make_config(tmp_path, compile="default"), CPU, images=3 * 32 + 5)
    for _ in range(3):
        trainer.step = 0
        for size in (32, 32, 32, 5):
            trainer.train_step(torch.randn(size, 1, 28, 28), torch.zeros(size, dtype=torch.int64))
    assert graphs == [[(32, 1, 28, 28)], [(5, 1, 28, 28)]]
