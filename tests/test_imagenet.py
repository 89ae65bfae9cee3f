"""ImageFolderDataset: the same bits for any number of workers, broken pictures, the folder tree, shards."""

import io
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data import imagenet
from data.augment import centre_view, random_view
from data.errors import DataError
from data.imagenet import ImageFolderDataset, decode
from data.tensors import generator

ROOT = Path(os.environ.get("POWERSGD_DATA", Path(__file__).resolve().parents[1] / "downloads"))
SAMPLE = next((ROOT / name for name in ("imagenet_sample", "imagenet") if (ROOT / name / "train").is_dir()), None)
CLASSES = ("n01", "n02", "n03")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def jpeg(seed, mode="RGB", **options):
    """An encoded picture of smooth noise; each seed has its own pixels and size."""
    draw = np.random.default_rng(seed)
    small = Image.fromarray(draw.integers(0, 256, (6, 8, 3), np.uint8))
    picture = small.resize((int(draw.integers(40, 70)), int(draw.integers(40, 70))), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    picture.convert(mode).save(file, options.pop("format", "JPEG"), **options)
    return file.getvalue()


@pytest.fixture
def tree(tmp_path):
    """{train,val} of three classes with 5, 4 and 4 pictures, 26 different ones."""
    for s, split in enumerate(("train", "val")):
        for c, name in enumerate(CLASSES):
            folder = tmp_path / "tree" / split / name
            folder.mkdir(parents=True)
            for i in range(5 - (c > 0)):
                (folder / f"{name}_{i}.JPEG").write_bytes(jpeg(100 * s + 10 * c + i))
    return tmp_path / "tree"


def dataset(root, train=True, **options):
    options = {"num_classes": 3, "mean": MEAN, "std": STD, "size": 32, "workers": 0} | options
    return ImageFolderDataset(root, train, **options)


def gathered(batches):
    images, labels = zip(*[(images.clone(), labels.clone()) for images, labels in batches], strict=True)
    return torch.cat(images), torch.cat(labels)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def normalised(view):
    mean, std = (torch.tensor(value).view(-1, 1, 1) for value in (MEAN, STD))
    return (view.float() / 255 - mean) / std


def error_of(call):
    with pytest.raises(DataError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What is served


def test_an_epoch_is_every_picture_once_as_drawn_for_it(tree):
    data = dataset(tree)
    images, labels = gathered(data.epoch(7, 2, 4))
    order = torch.randperm(13, generator=generator(7, "order", 2)).tolist()
    files = sorted((tree / "train").rglob("*.JPEG"))
    assert labels.tolist() == [CLASSES.index(files[i].parent.name) for i in order]
    for image, i in zip(images, order, strict=True):
        view = random_view(decode(files[i].read_bytes()), 32, generator(7, "augmentation", 2, i))
        torch.testing.assert_close(image, normalised(view))


def test_evaluation_is_every_picture_in_order_from_its_centre(tree):
    data = dataset(tree, train=False)
    images, labels = gathered(data.batches(5))
    files = sorted((tree / "val").rglob("*.JPEG"))
    assert labels.tolist() == [0] * 5 + [1] * 4 + [2] * 4
    wanted = torch.stack([normalised(centre_view(decode(file.read_bytes()), 32)) for file in files])
    torch.testing.assert_close(images, wanted)
    assert same(gathered(data.batches(13)), (images, labels))


def test_it_looks_like_a_tensor_dataset(tree):
    data = dataset(tree)
    assert (len(data), data.num_classes, data.image_shape) == (13, 3, (3, 32, 32))
    batches = list(data.epoch(0, 0, 4))
    assert [tuple(images.shape) for images, _ in batches] == [(4, 3, 32, 32)] * 3 + [(1, 3, 32, 32)]
    assert batches[0][0].dtype == torch.float32
    assert batches[0][0].is_contiguous()
    assert batches[0][1].dtype == torch.int64


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_a_bit(tree, workers):
    alone, shared = dataset(tree), dataset(tree, workers=workers)
    for epoch in (0, 1):
        assert same(gathered(alone.epoch(3, epoch, 4)), gathered(shared.epoch(3, epoch, 4)))
    assert same(gathered(alone.batches(4)), gathered(shared.batches(4)))


def test_seed_and_epoch_decide_and_the_batch_size_does_not(tree):
    data = dataset(tree)
    first = gathered(data.epoch(0, 0, 4))
    assert same(first, gathered(dataset(tree).epoch(0, 0, 4)))
    assert same(first, gathered(data.epoch(0, 0, 5)))
    assert not torch.equal(first[0], gathered(data.epoch(0, 1, 4))[0])
    assert not torch.equal(first[0], gathered(data.epoch(1, 0, 4))[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_goes_on_at_any_step(tree, workers):
    data = dataset(tree, workers=workers)
    whole = list(data.epoch(0, 5, 4))
    for start in (1, 3, 4):
        rest = list(data.epoch(0, 5, 4, start=start))
        assert len(rest) == 4 - start
        assert all(same(a, b) for a, b in zip(whole[start:], rest, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_the_global_generator_is_left_alone(tree, workers):
    before = torch.get_rng_state()
    gathered(dataset(tree, workers=workers).epoch(0, 0, 4))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("world", [2, 3])
def test_shards_are_the_parts_of_each_batch(tree, world):
    for serve in (lambda data: data.epoch(0, 1, 6), lambda data: data.batches(6)):
        whole = list(serve(dataset(tree)))
        shares = [list(serve(dataset(tree, shard=(rank, world)))) for rank in range(world)]
        for step, batch in enumerate(whole):
            assert same(batch, [torch.cat(parts) for parts in zip(*[share[step] for share in shares], strict=True)])


def test_a_subset_is_balanced_and_fixed(tree):
    data = dataset(tree, subset=7)
    assert data.labels.bincount().tolist() == [3, 2, 2]
    assert same(gathered(data.batches(4)), gathered(dataset(tree, subset=7).batches(4)))
    assert "subset=14" in error_of(lambda: dataset(tree, subset=14))


# Broken pictures


def spoil(tree, *names):
    paths = [tree / "train" / name[:3] / f"{name}.JPEG" for name in names]
    for path in paths:
        path.write_bytes(path.read_bytes()[:-200])
    return paths


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_picture_ends_the_epoch_with_its_name(tree, workers):
    (path,) = spoil(tree, "n02_1")
    message = error_of(lambda: gathered(dataset(tree, workers=workers).epoch(0, 0, 4)))
    assert str(path) in message
    assert "dataset.on_error=skip" in message


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_pictures_are_replaced_named_and_counted(tree, workers):
    paths = spoil(tree, "n02_1", "n02_2", "n03_3")
    data = dataset(tree, workers=workers, on_error="skip")
    images, labels = gathered(data.epoch(0, 0, 4))
    assert sorted(data.broken) == sorted(map(str, paths))
    assert all(data.broken.values())
    assert same((images, labels), gathered(dataset(tree, on_error="skip").epoch(0, 0, 4)))
    assert labels.bincount().tolist() == [5, 4, 4]

    seen, _ = gathered(data.batches(13))
    assert torch.equal(seen[6], seen[8])  # n02_1 and n02_2 by n02_3
    assert torch.equal(seen[7], seen[8])
    assert torch.equal(seen[12], seen[9])  # n03_3, the last of its class, by n03_0
    assert len(data.broken) == 3


def test_a_class_without_a_readable_picture_is_an_error_even_so(tree):
    spoil(tree, *(f"n03_{i}" for i in range(4)))
    assert "n03" in error_of(lambda: gathered(dataset(tree, on_error="skip").epoch(0, 0, 4)))


@pytest.mark.parametrize(
    "content", [b"", b"not a picture", b"\xff\xd8\xff\xe0" + bytes(100)], ids=["empty", "text", "head"]
)
def test_what_is_no_picture_is_broken(content):
    with pytest.raises(ValueError) as caught:
        decode(content)
    assert "0x" not in str(caught.value)  # no addresses: the reason is the same in every run


@pytest.mark.parametrize("workers", [0, 1])
def test_a_fault_of_the_disk_is_never_skipped(tree, workers):
    data = dataset(tree, workers=workers, on_error="skip")
    path = tree / "train" / "n01" / "n01_0.JPEG"
    path.unlink()
    assert str(path) in error_of(lambda: gathered(data.epoch(0, 0, 4)))
    assert not data.broken


# Decoding

FORMS = {
    "4:4:4": {"subsampling": "4:4:4"},
    "4:2:2": {"subsampling": "4:2:2"},
    "4:2:0": {"subsampling": "4:2:0"},
    "progressive": {"progressive": True},
    "poor": {"quality": 5},
    "grey": {"mode": "L"},
    "RGB coded": {"keep_rgb": True},
    "CMYK": {"mode": "CMYK"},
    "PNG": {"format": "PNG"},
    "PNG palette": {"format": "PNG", "mode": "P"},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("installed", [True, False], ids=["as installed", "without simplejpeg"])
def test_pixels_are_pillows_whatever_is_installed(monkeypatch, form, installed):
    if not installed:
        monkeypatch.setattr(imagenet, "simplejpeg", None)
    for seed in range(5):
        content = jpeg(seed, **FORMS[form])
        wanted = np.array(Image.open(io.BytesIO(content)).convert("RGB"))
        assert np.array_equal(decode(content).permute(1, 2, 0).numpy(), wanted)


# The tree


def test_other_files_are_left_out(tree):
    for name in ("._n01_0.JPEG", ".hidden.jpg", "readme.txt"):
        (tree / "train" / "n01" / name).write_bytes(b"x")
    (tree / "train" / ".cache").mkdir()
    (tree / "train" / "list.csv").write_text("x")
    (tree / "train" / "n01" / "another.jpg").write_bytes(jpeg(1))
    assert len(dataset(tree)) == 14


def test_a_tree_that_is_not_one_is_explained(tree, tmp_path):
    message = error_of(lambda: dataset(tmp_path / "none"))
    assert str(tmp_path / "none" / "train") in message
    assert "<class>/*.JPEG" in message
    assert "3 class folders instead of 1000" in error_of(lambda: dataset(tree, num_classes=1000))
    (tree / "val" / "n02").rename(tree / "val" / "n04")
    assert "n02, n04" in error_of(lambda: dataset(tree))
    (tree / "val" / "n04").rename(tree / "val" / "n02")
    for path in (tree / "train" / "n02").iterdir():
        path.unlink()
    assert "n02 holds no JPEG" in error_of(lambda: dataset(tree))


def test_a_wrong_choice_is_refused(tree):
    with pytest.raises(ValueError, match="'ignore'"):
        dataset(tree, on_error="ignore")


# Processes


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="this system does not tell who sent a signal")
def test_signals_to_the_group_leave_the_workers_working(tree):
    # Ctrl-C and Slurm reach the workers too; the parent decides when to stop.
    wanted, served = gathered(dataset(tree).epoch(0, 0, 1)), []
    for step, (images, labels) in enumerate(dataset(tree, workers=2).epoch(0, 0, 1)):
        served.append((images.clone(), labels))
        if step == 1:  # both have served, so both have begun
            workers = multiprocessing.active_children()
            assert len(workers) == 2
            for name in ("INT", "TERM", "TERM"):  # from another process, since the parent's own are obeyed
                subprocess.run(["kill", f"-{name}", *(str(worker.pid) for worker in workers)], check=True)
            time.sleep(0.1)
    assert same(wanted, gathered(served))


def test_workers_end_with_the_epoch_and_when_it_is_left(tree):
    data = dataset(tree, workers=2)
    gathered(data.epoch(0, 0, 4))
    assert multiprocessing.active_children() == []
    epoch = data.epoch(0, 0, 4)
    next(epoch)
    epoch.close()
    assert multiprocessing.active_children() == []


EXIT_IN_THE_MIDDLE = """
import sys
sys.path.insert(0, sys.argv[1])
from data.imagenet import ImageFolderDataset
data = ImageFolderDataset(sys.argv[2], True, num_classes=3, mean=(0,) * 3, std=(1,) * 3, size=32, workers=2)
epoch = data.epoch(0, 0, 1)
next(epoch), next(epoch)
import builtins
builtins.kept = epoch  # as a traceback keeps it: nobody closes the epoch before the interpreter ends
"""


def test_a_program_ends_though_its_epoch_was_never_closed(tree):
    repository = str(Path(__file__).resolve().parents[1])
    done = subprocess.run([sys.executable, "-c", EXIT_IN_THE_MIDDLE, repository, str(tree)], timeout=60)
    assert done.returncode == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("workers", [0, 2])
def test_cuda_serves_what_the_cpu_does(tree, workers):
    ours, on_gpu = dataset(tree), dataset(tree, workers=workers, device="cuda")
    images, labels = gathered(on_gpu.epoch(0, 0, 4))
    assert images.is_cuda
    torch.testing.assert_close((images.cpu(), labels.cpu()), gathered(ours.epoch(0, 0, 4)))


@pytest.mark.skipif(SAMPLE is None, reason=f"no ImageNet pictures below {ROOT} (POWERSGD_DATA names another place)")
def test_real_pictures():
    classes = sum(path.is_dir() for path in (SAMPLE / "train").iterdir())
    options = {"num_classes": classes, "size": 224, "subset": classes}
    one, two = dataset(SAMPLE, workers=1, **options), dataset(SAMPLE, workers=2, **options)
    first = next(one.epoch(0, 0, 50))
    assert first[0].shape == (50, 3, 224, 224)
    assert first[0].mean().abs() < 0.5
    assert same(first, next(two.epoch(0, 0, 50)))
