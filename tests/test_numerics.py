"""What a step computes with: kernels without needless work, and graphs of fixed sizes."""

import math
import os
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from runs import cli
from runs.identity import identity
from training import build
from training.device import configure, environment
from training.distributed import World
from training.trainer import EVALUATION_BATCHES, Trainer

from .helpers import ROOT, composed, make_config

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


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("cudnn_benchmark", [True, False])
def test_cudnn_chooses_by_time_where_asked_or_where_bits_do_not_count(
    deterministic, cudnn_benchmark, tmp_path, settings_kept
):
    configure(make_config(tmp_path, device="cuda", deterministic=deterministic, cudnn_benchmark=cudnn_benchmark), GPU)
    assert torch.are_deterministic_algorithms_enabled() == deterministic
    assert torch.backends.cudnn.benchmark == (cudnn_benchmark or not deterministic)


@pytest.mark.parametrize("experiment", ["fig2", "fig1ab", "fig1cd", "fig1ef", "fig1gh", "fig1ij"])
def test_a_compiled_step_has_one_graph_for_each_of_its_two_batch_sizes(experiment, monkeypatch):
    """Of every network, at the smoke tier's size: nothing breaks its graph in two."""
    graphs, compiled = [], torch.compile
    config = cli.typed(composed(f"experiment={experiment}", "tier=smoke", "compile=default", "batch_size=4"))
    shape = (3, 64, 64) if experiment == "fig1ij" else tuple(config.dataset.image_shape)

    def counting(graph, inputs):
        graphs.append([getattr(x, "shape", None) for x in inputs if not isinstance(x, torch.nn.Parameter)])
        return graph.forward

    monkeypatch.setattr(build.torch, "compile", lambda net, mode, **options: compiled(net, backend=counting, **options))
    torch._dynamo.reset()
    trainer = Trainer(config, CPU, images=2 * 4 + 3)
    for _ in range(2):
        trainer.step = 0
        for size in (4, 4, 3):
            trainer.train_step(torch.randn(size, *shape), torch.zeros(size, dtype=torch.int64))
    assert [inputs for inputs in graphs if (4, *shape) in inputs or (3, *shape) in inputs] == graphs
    assert [(4, *shape) in inputs for inputs in graphs] == [True, False]


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ((), "strict"),
        (("numerics=fast",), "fast"),
        (("precision=bf16", "compile=reduce-overhead"), "fast"),
        (("numerics=fast", "channels_last=false"), "bf16, compiled"),
        (("numerics=fast", "compile=none"), "bf16"),
        (("compile=default",), "fp32, compiled"),
    ],
)
def test_numerics_are_named_by_what_a_run_computes_with(overrides, name):
    assert environment(cli.typed(composed(*overrides)), CPU)["numerics"] == name


def test_numerics_are_a_word_for_settings_that_name_a_run_as_before():
    names = {words: identity(cli.plain(composed(*words.split()))) for words in ("", "numerics=fast", "precision=bf16")}
    assert names[""] != names["numerics=fast"] == names["precision=bf16"]


def test_an_evaluation_has_no_smaller_batches_than_training(tmp_path, monkeypatch):
    """20 of ImageNet's pictures are too few for a GPU; what a step holds with its gradients fits without them."""

    class Large:
        image_shape, sizes = (1, 28, 28), []

        def __len__(self):
            return 1

        def batches(self, size):
            self.sizes.append(size)
            return []

    monkeypatch.setattr("training.trainer.EVALUATION_VALUES", 28 * 28 * 20)
    for batch, accumulate in ((8, 1), (128, 1), (128, 2)):
        trainer = Trainer(make_config(tmp_path, batch_size=batch, accumulate=accumulate), CPU, images=1000)
        trainer.evaluate(Large())
    assert Large.sizes == [20, 128, 64]


@pytest.mark.parametrize(
    ("settings", "on_gpu", "on_cpu"),
    [
        (("experiment=fig1ab",), 512, 250),
        (("experiment=fig1ab", "accumulate=4"), 250, 250),
        (("experiment=fig2",), 979, 979),
        (("experiment=fig1ij",), 128, 128),
    ],
)
def test_evaluation_takes_more_images_at_a_time_on_a_gpu_alone(settings, on_gpu, on_cpu):
    config = cli.typed(composed(*settings))
    trainer, values = Trainer.__new__(Trainer), math.prod(config.dataset.image_shape)
    trainer.config, trainer.world, trainer.device = config, World(), GPU
    assert trainer.evaluation_batch(values) == on_gpu
    trainer.device = CPU
    assert trainer.evaluation_batch(values) == on_cpu


class Live(TorchDispatchMode):
    """The most bytes at a time of what operators made, without the weights' own."""

    def __init__(self):
        super().__init__()
        self.now = self.most = 0
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **kwargs or {})
        for tensor in found if isinstance(found, (tuple, list)) else (found,):
            if isinstance(tensor, torch.Tensor) and (key := tensor.untyped_storage()._cdata) not in self.seen:
                size = tensor.untyped_storage().nbytes()
                self.seen.add(key)
                self.now += size
                self.most = max(self.most, self.now)
                weakref.finalize(tensor.untyped_storage(), self._gone, key, size)
        return found

    def _gone(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.now -= size


@pytest.mark.parametrize("experiment", ["fig1ab", "fig1cd", "fig1ef", "fig1gh", "fig1ij"])
def test_four_batches_without_gradients_need_less_memory_than_one_with(experiment):
    """Counted on tensors without values, of the full-size networks."""
    config = cli.typed(composed(f"experiment={experiment}"))
    with torch.device("meta") as meta:
        trainer = Trainer(config, meta, images=10 * config.batch_size)
        shape = config.dataset.image_shape
        inputs, labels = torch.empty(config.batch_size, *shape), torch.empty(config.batch_size, dtype=torch.int64)
        with Live() as training:
            trainer.train_step(inputs, labels)
        many = torch.empty(EVALUATION_BATCHES * config.batch_size, *shape)
        trainer.model.eval()
        with Live() as evaluation, torch.no_grad():
            trainer.model(trainer.laid_out(many))
    assert 0 < evaluation.most < training.most


SHORT_OF_MEMORY = """
import resource, sys, torch
from pathlib import Path
from tests.helpers import composed
from runs import cli
from training.device import configure
configure(cli.typed(composed("device=cpu")), torch.device("cpu"))
generator = torch.Generator().manual_seed(0)
shapes = [(20, 192, 256), (128, 784, 512), (1000, 784, 512)]
tensors = [[torch.randn(size, generator=generator) for size in ((n, i), (o, i), (n, o))] for n, i, o in shapes]
results = [[torch.empty(n, o), torch.empty(o, i), torch.empty(n, i)] for n, i, o in shapes]
pages = int(Path("/proc/self/statm").read_text().split()[0])
if sys.argv[1:]:
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize(), -1))
for (x, w, dy), (y, dw, dx) in zip(tensors, results):
    torch.mm(x, w.T, out=y), torch.mm(dy.T, x, out=dw), torch.mm(dy, w, out=dx)
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
print([[hash(one.numpy().tobytes()) for one in three] for three in results])
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_products_without_memory_for_buffers_have_the_same_bits():
    seeded = os.environ | {"PYTHONHASHSEED": "0"}
    found = [
        subprocess.run([sys.executable, "-c", SHORT_OF_MEMORY, *more], cwd=ROOT, env=seeded,
                       capture_output=True, text=True, check=True).stdout
        for more in ([], ["limited"])
    ]  # fmt: skip
    assert found[0] == found[1]
