"""The convolutional models: sizes, structure, initialisation, and agreement with the paper's sources.

Full-size models live on the meta device (shapes, no memory); numbers are computed on tiny ones.
"""

import math

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models.densenet_cifar import DenseLayer, DenseNetCifar
from models.init import SCHEMES, initialise
from models.resnet_cifar import Bottleneck, ResNetCifar
from models.resnet_imagenet import ResNetImageNet
from models.resnext_cifar import GroupedBottleneck, ResNeXtCifar
from models.wide_resnet_cifar import BasicBlock, WideResNetCifar

MODELS = [ResNetCifar, DenseNetCifar, ResNeXtCifar, WideResNetCifar, ResNetImageNet]

TINY = {
    ResNetCifar: {"num_classes": 3, "blocks": [2, 1, 1, 1], "width": 4},
    DenseNetCifar: {"num_classes": 3, "blocks": [2, 1, 2, 2], "growth": 5},
    ResNeXtCifar: {"num_classes": 3, "depth": 20, "cardinality": 3, "width": 2, "stem": 4},
    WideResNetCifar: {"num_classes": 3, "depth": 14, "widen": 1},
    ResNetImageNet: {"num_classes": 3, "blocks": [1, 2, 1, 1], "width": 2},
}


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def on_meta(model_class, **arguments):
    with torch.device("meta"):
        return model_class(**arguments)


def tiny(model_class, seed=0, **arguments):
    torch.manual_seed(seed)
    return model_class(**TINY[model_class] | arguments)


def images(count=2, side=32, device="cpu", dtype=torch.float32):
    generator = None if device == "meta" else torch.Generator().manual_seed(1)
    return torch.randn(count, 3, side, side, generator=generator, device=device, dtype=dtype)


def layers(model, kind):
    return {name: module for name, module in model.named_modules() if isinstance(module, kind)}


def outputs(model, x, kind):
    """(module, input, output) of every module of `kind` in one forward pass, in the order of execution."""
    seen = []
    hooks = [
        module.register_forward_hook(lambda module, args, out: seen.append((module, args[0], out)))
        for module in layers(model, kind).values()
    ]
    model(x)
    for hook in hooks:
        hook.remove()
    return seen


# --- sizes of the paper's models


@pytest.mark.parametrize(
    ("model_class", "side", "parameters", "giga_multiply_adds", "convolutions", "batch_norms"),
    [
        (ResNetCifar, 32, 23_520_842, 1.298, 53, 53),
        (DenseNetCifar, 32, 6_956_298, 0.888, 120, 120),
        (ResNeXtCifar, 32, 68_247_460, 10.689, 31, 31),
        (WideResNetCifar, 32, 36_539_124, 5.243, 28, 28),
        (ResNetImageNet, 224, 25_557_032, 4.089, 53, 53),
    ],
)
def test_the_papers_size(model_class, side, parameters, giga_multiply_adds, convolutions, batch_norms):
    model = on_meta(model_class)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert len(layers(model, nn.Conv2d)) == convolutions
    assert len(layers(model, nn.BatchNorm2d)) == batch_norms
    with FlopCounterMode(display=False) as counter:
        model(images(1, side, "meta"))
    assert round(counter.get_total_flops() / 2e9, 3) == giga_multiply_adds


@pytest.mark.parametrize("model_class", MODELS)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_logits_have_a_row_an_image(model_class, count):
    model = on_meta(model_class, num_classes=17).eval()
    assert model(images(count, 64 if model_class is ResNetImageNet else 32, "meta")).shape == (count, 17)


STAGES = {
    ResNetCifar: {
        "conv1": (64, 32), "layer1": (256, 32), "layer2": (512, 16), "layer3": (1024, 8), "layer4": (2048, 4),
    },
    DenseNetCifar: {
        "conv1": (64, 32), "dense1": (256, 32), "trans1": (128, 16), "dense2": (512, 16),
        "trans2": (256, 8), "dense3": (1024, 8), "trans3": (512, 4), "dense4": (1024, 4),
    },
    ResNeXtCifar: {"conv1": (64, 32), "layer1": (256, 32), "layer2": (512, 16), "layer3": (1024, 8)},
    WideResNetCifar: {"conv1": (16, 32), "layer1": (160, 32), "layer2": (320, 16), "layer3": (640, 8)},
}  # fmt: skip


@pytest.mark.parametrize("model_class", STAGES)
def test_stage_maps_and_their_order(model_class):
    model = on_meta(model_class)
    stages = {name: model.get_submodule(name) for name in STAGES[model_class]}
    reached = {}
    for name, stage in stages.items():
        stage.register_forward_hook(lambda stage, args, out, name=name: reached.update({name: out.shape[1:]}))
    model(images(2, device="meta"))
    expected = {name: (channels, side, side) for name, (channels, side) in STAGES[model_class].items()}
    assert list(reached.items()) == list(expected.items())


@pytest.mark.parametrize("model_class", STAGES)
def test_a_stem_of_stride_2_halves_every_map_and_adds_no_weight(model_class):
    model, usual = on_meta(model_class, stem_stride=2), on_meta(model_class)
    reached = {}
    for name in STAGES[model_class]:
        model.get_submodule(name).register_forward_hook(
            lambda stage, args, out, name=name: reached.update({name: tuple(out.shape[1:])})
        )
    model(images(2, device="meta"))
    assert reached == {name: (channels, side // 2, side // 2) for name, (channels, side) in STAGES[model_class].items()}
    assert [p.shape for p in model.parameters()] == [p.shape for p in usual.parameters()]
    with pytest.raises(ValueError, match="stem_stride=0"):
        model_class(stem_stride=0)


@pytest.mark.parametrize("model_class", MODELS)
@pytest.mark.parametrize("size", [(16, 16), (20, 36)])
def test_other_image_sizes(model_class, size):
    assert tiny(model_class).eval()(torch.zeros(1, 3, *size)).shape == (1, 3)


def test_small_models_cost_little():
    """The laptop tier rests on these knobs reaching every convolution."""
    small = {
        ResNetCifar: {"blocks": (1, 1, 1, 1), "width": 8},
        DenseNetCifar: {"blocks": (2, 2, 2, 2), "growth": 8},
        ResNeXtCifar: {"depth": 11, "cardinality": 4, "width": 4, "stem": 16},
        WideResNetCifar: {"depth": 8, "widen": 1},
    }
    for model_class, arguments in small.items():
        with FlopCounterMode(display=False) as counter:
            on_meta(model_class, **arguments)(images(1, device="meta"))
        assert counter.get_total_flops() / 2 < 20e6, model_class


# --- structure


def test_strides_stand_where_the_sources_have_them():
    """Downsampling in the 3x3 (not the first 1x1) of a bottleneck, and in the projection beside it."""

    def strided(model):
        return {name for name, conv in layers(model, nn.Conv2d).items() if conv.stride != (1, 1)}

    assert strided(on_meta(ResNetCifar)) == {
        f"layer{stage}.0.{conv}" for stage in (2, 3, 4) for conv in ("conv2", "shortcut.0")
    }
    assert strided(on_meta(ResNeXtCifar)) == {
        f"layer{stage}.0.{conv}" for stage in (2, 3) for conv in ("conv2", "downsample.0")
    }
    assert strided(on_meta(WideResNetCifar)) == {
        f"layer{stage}.0.{conv}" for stage in (2, 3) for conv in ("conv1", "downsample.0")
    }
    assert strided(on_meta(DenseNetCifar)) == set()


@pytest.mark.parametrize(
    ("model_class", "arguments", "block_class", "blocks_a_stage", "projections"),
    [
        (ResNetCifar, {}, Bottleneck, [3, 4, 6, 3], ["layer1.0", "layer2.0", "layer3.0", "layer4.0"]),
        (ResNeXtCifar, {}, GroupedBottleneck, [3, 3, 3], ["layer1.0", "layer2.0", "layer3.0"]),
        (WideResNetCifar, {}, BasicBlock, [4, 4, 4], ["layer1.0", "layer2.0", "layer3.0"]),
        # At k = 1 the first stage keeps the stem's 16 channels, so nothing is there to project.
        (WideResNetCifar, {"widen": 1}, BasicBlock, [4, 4, 4], ["layer2.0", "layer3.0"]),
    ],
)
def test_blocks_a_stage_and_projections(model_class, arguments, block_class, blocks_a_stage, projections):
    model = on_meta(model_class, **arguments)
    stages = [stage for stage in model.children() if isinstance(stage, nn.Sequential)]
    assert [len(stage) for stage in stages] == blocks_a_stage
    names = {block: name for name, block in layers(model, block_class).items()}
    passed = outputs(model, images(2, device="meta"), block_class)
    assert [names[block] for block, x, out in passed if x.shape != out.shape] == projections
    shortcuts = [name.split(".") for name in layers(model, nn.Conv2d) if name.count(".") == 3]
    assert [".".join(parts[:2]) for parts in shortcuts] == projections


@pytest.mark.parametrize(
    ("model_class", "block_class", "last_norm"),
    [
        (ResNetCifar, Bottleneck, "bn3"),
        (ResNeXtCifar, GroupedBottleneck, "bn3"),
        (WideResNetCifar, BasicBlock, "bn2"),
    ],
)
def test_residual_blocks_are_post_activation(model_class, block_class, last_norm):
    """A block's first convolution sees x itself, its last BN is before the sum, its last ReLU after it."""
    model = tiny(model_class)
    for block in layers(model, block_class).values():
        block.conv1.register_forward_hook(lambda conv, args, out, block=block: setattr(block, "first_input", args[0]))
    for block, x, out in outputs(model, images(4), block_class):
        assert block.first_input is x
        assert out.min() == 0 < out.max()
    for block in layers(model, block_class).values():
        nn.init.zeros_(block.get_submodule(last_norm).weight)
        nn.init.constant_(block.get_submodule(last_norm).bias, -0.25)
    for block, x, out in outputs(model.eval(), images(4), block_class):
        shortcut = block.shortcut if isinstance(block, Bottleneck) else block.downsample
        torch.testing.assert_close(out, (shortcut(x) - 0.25).clamp(min=0))


def test_dense_layer_puts_its_new_maps_first():
    layer = DenseLayer(channels_in=6, growth=4)
    x = images(2).repeat(1, 2, 1, 1)
    out = layer(x)
    assert out.shape == (2, 10, 32, 32)
    assert torch.equal(out[:, 4:], x)
    layer.conv2.weight.data[1].zero_()
    assert [bool(layer(x)[:, channel].any()) for channel in range(4)] == [True, False, True, True]


def test_dense_layer_and_transition_are_pre_activation():
    """A large negative shift in the first BN leaves the convolutions nothing: only the old maps pass."""
    model = tiny(DenseNetCifar)
    layer, transition = model.dense2[0], model.trans1
    for norm in (layer.bn1, layer.bn2, transition.bn):
        nn.init.constant_(norm.bias, -100)
    x = torch.randn(4, layer.bn1.num_features, 8, 8)
    assert not layer(x)[:, :5].any()
    assert not transition(torch.randn(4, transition.bn.num_features, 8, 8)).any()


def test_dense_blocks_have_the_layers_of_densenet_121():
    model = on_meta(DenseNetCifar)
    assert [len(model.get_submodule(f"dense{i}")) for i in (1, 2, 3, 4)] == [6, 12, 24, 16]
    dense_layers = layers(model, DenseLayer).values()
    assert {(layer.conv1.out_channels, layer.conv2.out_channels) for layer in dense_layers} == {(128, 32)}


def test_grouped_convolutions_of_resnext():
    grouped = {n: c for n, c in layers(on_meta(ResNeXtCifar), nn.Conv2d).items() if c.groups != 1}
    assert list(grouped) == [f"layer{stage}.{block}.conv2" for stage in (1, 2, 3) for block in (0, 1, 2)]
    assert {c.groups for c in grouped.values()} == {16}
    assert [c.out_channels for c in grouped.values()] == [1024] * 3 + [2048] * 3 + [4096] * 3


# --- the same function as the paper's source


def _numbers(index, shape):
    """Integers scrambled into [-1, 1], the same on every machine and release of torch."""
    i = torch.arange(torch.Size(shape).numel())
    return ((i * i * 31 + i * 7919 + index * 104729) % 10007).double().view(shape) / 5003 - 1


@pytest.mark.parametrize(
    ("model_class", "arguments", "expected"),
    [
        (
            ResNetCifar, {"blocks": (2, 1, 1, 1)},
            [[9.888710469039838, 1.8112816909240401, 4.650856243806221],
             [9.135112493624247, 3.0398964774685995, 4.795641139056475]],
        ),
        (
            DenseNetCifar, {"blocks": (2, 1, 2, 2), "growth": 5},
            [[-1.8384744882104838, 2.408830816862567, 2.584616961747532],
             [-1.8497979111812275, 2.4179573100175027, 2.6000015839449286]],
        ),
        (
            ResNeXtCifar, {"depth": 11, "cardinality": 3, "width": 2},
            [[1.0856016806417, 3.1896038526933514, -0.10303947200654284],
             [1.4528370993561777, 3.107621098643258, -0.3495327136535594]],
        ),
        (
            WideResNetCifar, {"depth": 14, "widen": 1},
            [[0.8647948759008185, 2.2214550342886494, -9.10402520242353],
             [0.41335587770568705, 1.9493888922665599, -8.963639825844636]],
        ),
    ],
)  # fmt: skip
def test_logits_agree_with_the_sources(model_class, arguments, expected):
    """`expected` came from a transcription of the sources' classes, run once and filled as here.

    kuangliu/pytorch-cifar 0acfbc1 (ResNet), 64fe317 (DenseNet); junyuseu/pytorch-cifar-models 454e1b3.
    """
    model = model_class(num_classes=3, **arguments).double().eval()
    for index, (name, tensor) in enumerate(model.state_dict().items()):
        if tensor.ndim > 1:
            tensor.copy_(_numbers(index, tensor.shape) * math.sqrt(6 / tensor[0].numel()))
        elif name.endswith(("weight", "running_var")):
            tensor.copy_(1 + _numbers(index, tensor.shape) / 2)
        elif tensor.is_floating_point():
            tensor.copy_(_numbers(index, tensor.shape) / 2)
    with torch.no_grad():
        logits = model(_numbers(0, (2, 3, 32, 32)))
    torch.testing.assert_close(logits, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)


def test_default_imagenet_model_is_torchvisions_resnet50():
    ours, theirs = on_meta(ResNetImageNet).state_dict(), on_meta(torchvision.models.resnet50).state_dict()
    assert [(name, t.shape) for name, t in ours.items()] == [(name, t.shape) for name, t in theirs.items()]


def test_imagenet_model_keeps_torchvisions_initialisation():
    torch.manual_seed(0)
    bottleneck = torchvision.models.resnet.Bottleneck
    theirs = torchvision.models.ResNet(bottleneck, [1, 2, 1, 1], 3, width_per_group=2)
    torch.testing.assert_close(tiny(ResNetImageNet).state_dict(), theirs.state_dict(), rtol=0, atol=0)


def test_imagenet_width_narrows_the_inside_of_the_bottlenecks_only():
    model = on_meta(ResNetImageNet, width=16)
    convs = layers(model, nn.Conv2d)
    assert [convs[f"layer{i}.0.conv2"].out_channels for i in (1, 2, 3, 4)] == [16, 32, 64, 128]
    assert [convs[f"layer{i}.0.conv3"].out_channels for i in (1, 2, 3, 4)] == [256, 512, 1024, 2048]
    assert convs["conv1"].out_channels == 64


# --- initialisation


def initialised(scheme):
    """A grouped convolution with bias (fan_in 9 * 32 / 4 = 72, fan_out 9 * 96 = 864), a BN and a Linear."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(32, 96, 3, groups=4), nn.BatchNorm2d(96), nn.Linear(128, 64))
    for tensor in model[1].parameters():
        nn.init.constant_(tensor, 0.3)
    initialise(model, scheme)
    return model


NORMAL_STD = {"he": (2 / 72, 2 / 128), "he_fan_out": (2 / 864, None), "lecun": (1 / 72, 1 / 128)}
UNIFORM_BOUND = {
    "torch": (1 / 72, 1 / 128),
    "he_fan_out": (None, 1 / 128),
    "xavier": (6 / (72 + 864), 6 / (128 + 64)),
}


@pytest.mark.parametrize("scheme", NORMAL_STD)
def test_normal_schemes(scheme):
    model = initialised(scheme)
    for layer, variance in zip((model[0], model[2]), NORMAL_STD[scheme], strict=True):
        if variance is not None:
            std = math.sqrt(variance)
            # 6,912 and 8,192 draws: the std's own standard error is below 0.9 %, the mean's below 0.013 std.
            assert layer.weight.std().item() == pytest.approx(std, rel=0.04)
            assert abs(layer.weight.mean().item()) < 0.06 * std
            # A uniform of this std would end at 1.73.
            assert layer.weight.abs().max() > 2.5 * std


@pytest.mark.parametrize("scheme", UNIFORM_BOUND)
def test_uniform_schemes(scheme):
    model = initialised(scheme)
    for layer, squared in zip((model[0], model[2]), UNIFORM_BOUND[scheme], strict=True):
        if squared is not None:
            bound = math.sqrt(squared)
            assert 0.99 * bound < layer.weight.abs().max() <= bound
            assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.04)


def test_orthogonal_scheme():
    model = initialised("orthogonal")
    columns = model[0].weight.flatten(1)  # 96 outputs of 72 inputs: more rows than columns
    rows = model[2].weight
    torch.testing.assert_close(columns.T @ columns, torch.eye(72), rtol=0, atol=1e-5)
    torch.testing.assert_close(rows @ rows.T, torch.eye(64), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("scheme", "convolution_zero", "linear_zero"),
    [
        ("torch", False, False),
        ("he", True, True),
        ("he_fan_out", True, False),
        ("xavier", True, True),
        ("lecun", True, True),
        ("orthogonal", True, True),
    ],
)
def test_biases_and_batch_norm(scheme, convolution_zero, linear_zero):
    convolution, norm, linear = initialised(scheme)
    assert bool((convolution.bias == 0).all()) is convolution_zero
    assert bool((linear.bias == 0).all()) is linear_zero
    assert norm.weight.eq(1).all() and norm.bias.eq(0).all()


def test_torch_scheme_draws_nothing():
    torch.manual_seed(0)
    made = [nn.Conv2d(32, 96, 3, groups=4), nn.BatchNorm2d(96), nn.Linear(128, 64)]
    after = torch.rand(1)
    kept = initialised("torch")
    assert torch.equal(torch.rand(1), after)
    assert all(torch.equal(kept[i].weight, made[i].weight) for i in (0, 2))


@pytest.mark.parametrize("scheme", ["", "kaiming", None])
def test_unknown_scheme_names_the_choices(scheme):
    with pytest.raises(ValueError, match=rf"init={scheme!r} must be one of torch, he, he_fan_out, xavier"):
        initialise(nn.Linear(2, 2), scheme)


@pytest.mark.parametrize(
    ("model_class", "arguments", "source"),
    [
        (ResNetCifar, {"blocks": (1, 1, 1, 1), "width": 16}, "torch"),
        (DenseNetCifar, {"blocks": (2, 2, 2, 2), "growth": 16}, "torch"),
        (ResNeXtCifar, {"depth": 11, "cardinality": 4, "width": 8}, "he_fan_out"),
        (WideResNetCifar, {"depth": 8, "widen": 2}, "he_fan_out"),
    ],
)
def test_default_initialisation_is_the_sources(model_class, arguments, source):
    torch.manual_seed(0)
    checked = 0
    for conv in layers(model_class(**arguments), nn.Conv2d).values():
        if conv.weight.numel() < 4000:
            continue  # too few draws for 5 %
        checked += 1
        area = conv.kernel_size[0] * conv.kernel_size[1]
        if source == "torch":
            bound = math.sqrt(1 / (area * conv.in_channels))
            std = bound / math.sqrt(3)
            assert conv.weight.abs().max() <= bound
        else:
            std = math.sqrt(2 / (area * conv.out_channels))
        assert conv.weight.std().item() == pytest.approx(std, rel=0.05)
    assert checked >= 4


@pytest.mark.parametrize("model_class", MODELS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_seed_decides_every_bit(model_class, scheme):
    first, again, other = (list(tiny(model_class, seed, init=scheme).parameters()) for seed in (5, 5, 6))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(torch.equal(a, b) is (a.ndim == 1) for a, b in zip(first[:-1], other[:-1], strict=True))


# --- what training asks of a model


@pytest.mark.parametrize("model_class", MODELS)
def test_gradients_reach_every_parameter(model_class):
    model = tiny(model_class)
    nn.functional.cross_entropy(model(images(4, 64)), torch.tensor([0, 1, 2, 0])).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("model_class", MODELS)
def test_a_training_step_on_meta_never_reads_a_value(model_class):
    model = on_meta(model_class, **TINY[model_class])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(images(2, device="meta")).sum().backward()
    optimizer.step()
    assert all(p.grad.is_meta for p in model.parameters())


@pytest.mark.parametrize("model_class", MODELS)
def test_channels_last_stays_so_and_changes_nothing(model_class):
    x = images(2, 64)
    expected = tiny(model_class).eval()(x)
    model = tiny(model_class).eval().to(memory_format=torch.channels_last)
    x = x.to(memory_format=torch.channels_last)
    for _, _, out in outputs(model, x, nn.BatchNorm2d):
        assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model_class", MODELS)
def test_compiles_without_a_graph_break(model_class):
    model, x = tiny(model_class).eval(), images(2)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), model(x), rtol=0, atol=0)


@pytest.mark.parametrize("model_class", MODELS)
def test_state_round_trip(model_class):
    saved, loaded = tiny(model_class, seed=1).eval(), tiny(model_class, seed=2).eval()
    x = images(2)
    assert not torch.equal(saved(x), loaded(x))
    loaded.load_state_dict(saved.state_dict())
    assert torch.equal(saved(x), loaded(x))


# --- bad arguments


@pytest.mark.parametrize(
    ("model_class", "arguments", "message"),
    [(model_class, {"num_classes": 0}, "num_classes=0 must be at least 1") for model_class in MODELS]
    + [(model_class, {"init": "heh"}, "init='heh' must be one of torch, he, ") for model_class in MODELS]
    + [
        (model_class, {"blocks": blocks}, "must be four numbers, each at least 1")
        for model_class in (ResNetCifar, DenseNetCifar, ResNetImageNet)
        for blocks in ((3, 4, 6), (1, 1, 1, 1, 1), (3, 4, 0, 3), ())
    ]
    + [
        (ResNetCifar, {"width": 0}, "width=0 must be at least 1"),
        (ResNetImageNet, {"width": -4}, "width=-4 must be at least 1"),
        (DenseNetCifar, {"growth": 0}, "growth=0 must be at least 1"),
        (WideResNetCifar, {"widen": 0}, "widen=0 must be at least 1"),
        (WideResNetCifar, {"depth": 28}, r"depth=28 must be 6 \* n \+ 2"),
        (WideResNetCifar, {"depth": 2}, r"depth=2 must be 6 \* n \+ 2"),
        (WideResNetCifar, {"depth": -4}, r"depth=-4 must be 6 \* n \+ 2"),
        (ResNeXtCifar, {"depth": 26}, r"depth=26 must be 9 \* n \+ 2"),
        (ResNeXtCifar, {"depth": 2}, r"depth=2 must be 9 \* n \+ 2"),
        (ResNeXtCifar, {"cardinality": 0}, "cardinality=0 must be at least 1"),
        (ResNeXtCifar, {"width": 0}, "width=0 must be at least 1"),
        (ResNeXtCifar, {"stem": 0}, "stem=0 must be at least 1"),
    ],
)
def test_bad_arguments_name_the_value_and_the_range(model_class, arguments, message):
    with pytest.raises(ValueError, match=message):
        on_meta(model_class, **arguments)
