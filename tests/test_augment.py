"""Augmentation: CIFAR's crop and flip pixel for pixel against torchvision, ImageNet's views bit for bit."""

import itertools
import math

import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as reference

from data.augment import centre_view, crop_flip, draw_box, draw_crop_flip, random_view
from data.tensors import TensorDataset, generator

EVERY_DRAW = torch.tensor(list(itertools.product(range(9), range(9), range(2))))


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def noise(*shape, seed=0):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def torchvision_crop_flip(image, down, right, flip):
    crop = reference.crop(reference.pad(image, [4, 4, 4, 4]), down, right, *image.shape[1:])
    return reference.horizontal_flip(crop) if flip else crop


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 7, 12)], ids=str)
def test_every_offset_and_flip_equals_torchvision(shape):
    images = noise(len(EVERY_DRAW), *shape)
    wanted = [torchvision_crop_flip(image, *draw) for image, draw in zip(images, EVERY_DRAW.tolist(), strict=True)]
    before = images.clone()
    result = crop_flip(images, EVERY_DRAW)
    assert result.dtype == torch.uint8
    assert result.is_contiguous()
    assert torch.equal(result, torch.stack(wanted))
    assert torch.equal(images, before)


def test_one_image_under_every_draw():
    image = noise(1, 3, 32, 32)
    wanted = torch.stack([torchvision_crop_flip(image[0], *draw) for draw in EVERY_DRAW.tolist()])
    assert torch.equal(crop_flip(image.expand(len(EVERY_DRAW), -1, -1, -1), EVERY_DRAW), wanted)


def test_memory_format_does_not_matter():
    images = noise(5, 3, 32, 32)
    draws = draw_crop_flip(5, torch.Generator().manual_seed(1))
    assert torch.equal(crop_flip(images.contiguous(memory_format=torch.channels_last), draws), crop_flip(images, draws))


def test_crop_flip_never_waits_for_the_device():
    # On the meta device every operation that would need a value raises.
    images, draws = torch.empty(4, 3, 32, 32, dtype=torch.uint8, device="meta"), EVERY_DRAW[:4].to("meta")
    assert crop_flip(images, draws).shape == (4, 3, 32, 32)


def chi_square(counts, cells):
    expected = counts.sum().item() / cells
    return ((counts - expected) ** 2 / expected).sum().item()


def chi_square_limit(freedom):
    """Exceeded with probability 0.001 (Wilson and Hilferty)."""
    return freedom * (1 - 2 / (9 * freedom) + 3.09 * math.sqrt(2 / (9 * freedom))) ** 3


def test_draws_are_equally_likely_and_independent():
    draws = draw_crop_flip(162 * 500, generator(0, "augmentation", 0))
    assert draws.dtype == torch.int64
    assert draws.shape == (162 * 500, 3)
    assert draws.min(0).values.tolist() == [0, 0, 0]
    assert draws.max(0).values.tolist() == [8, 8, 1]
    cells = (draws[:, 0] * 9 + draws[:, 1]) * 2 + draws[:, 2]
    assert chi_square(cells.bincount(minlength=162), 162) < chi_square_limit(161)
    dependent = (draws[:, 0] * 9 + draws[:, 0]) * 2 + draws[:, 2]  # the test must see a draw used twice
    assert chi_square(dependent.bincount(minlength=162), 162) > chi_square_limit(161)


def test_draws_follow_the_generator_alone():
    first, again, other = (draw_crop_flip(1000, torch.Generator().manual_seed(s)) for s in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_an_epoch_is_the_same_in_parts_and_in_any_batch_size():
    # 50 distinguishable images; the view of each must not depend on where its batch begins.
    images, labels = noise(50, 3, 32, 32), torch.arange(50)
    data = TensorDataset(
        images, labels, num_classes=50, mean=(0.5,) * 3, std=(0.2,) * 3, augment=crop_flip, draw=draw_crop_flip
    )
    whole, resumed = list(data.epoch(0, 3, 8)), list(data.epoch(0, 3, 8, start=2))
    assert all(torch.equal(a, b) for x, y in zip(whole[2:], resumed, strict=True) for a, b in zip(x, y, strict=True))
    (everything, _), (other, _) = next(data.epoch(0, 3, 50)), next(data.epoch(0, 4, 50))
    assert torch.equal(torch.cat([x for x, _ in whole]), everything)
    assert not torch.equal(everything, other)


@pytest.mark.parametrize("height, width", [(375, 500), (500, 333), (224, 224), (30, 400), (400, 30), (7, 5), (1, 1)])
def test_boxes_are_those_of_torchvision(height, width):
    torchvision = v2.RandomResizedCrop(224)
    picture = torch.empty(3, height, width, dtype=torch.uint8)
    for seed in range(200):
        torch.manual_seed(seed)
        box = torchvision.make_params([picture])
        wanted = (box["top"], box["left"], box["height"], box["width"])
        assert draw_box(height, width, torch.Generator().manual_seed(seed)) == wanted


def test_random_view_is_torchvisions():
    picture = noise(3, 150, 200)
    flips = 0
    for seed in range(40):
        draws = torch.Generator().manual_seed(seed)
        box = draw_box(150, 200, draws)
        wanted = reference.resized_crop(picture, *box, [64, 64], antialias=True)
        view = random_view(picture, 64, torch.Generator().manual_seed(seed))
        flipped = torch.equal(view, reference.horizontal_flip(wanted))
        assert flipped or torch.equal(view, wanted)
        flips += flipped
    assert 10 < flips < 30


@pytest.mark.parametrize("height, width", [(375, 500), (500, 333), (256, 256), (300, 301), (90, 400), (1000, 257)])
def test_centre_view_is_torchvisions(height, width):
    picture = noise(3, height, width)
    wanted = v2.Compose([v2.Resize(256, antialias=True), v2.CenterCrop(224)])(picture)
    assert torch.equal(centre_view(picture, 224), wanted)


def test_views_are_within_a_level_of_pillows():
    picture = noise(3, 180, 240)
    pixels = Image.fromarray(picture.permute(1, 2, 0).numpy())
    wanted = reference.pil_to_tensor(v2.Compose([v2.Resize(256), v2.CenterCrop(224)])(pixels))
    assert (centre_view(picture, 224).int() - wanted.int()).abs().max() <= 1
