"""CIFAR from disk and from a download, whole and damaged; the made-up data set."""

import functools
import hashlib
import http.server
import os
import pickle
import random
import struct
import tarfile
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from data import cifar, synthetic
from data.errors import DataError
from training.build import build_data
from training.execute import execute

from .helpers import make_config

ROOT = Path(os.environ.get("POWERSGD_DATA", Path(__file__).resolve().parents[1] / "downloads"))
PUBLISHERS = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}
NAMES = sorted(PUBLISHERS)


def rows(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 3072), np.uint8)


def write(path, value, protocol=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(value, protocol))


def make(root, name, protocol=2):
    """A small data set in the archive's layout; returns {file: (rows, labels)}."""
    source, made = cifar.SOURCES[name], {}
    for number, file in enumerate(source.train | source.test):
        labels = [(number + i) % source.classes for i in range(4 + number)]
        made[file] = rows(len(labels), number), labels
        batch = {"data": made[file][0], source.labels: labels, "filenames": ["a.png"] * len(labels)}
        write(root / source.folder / file, batch, protocol)
    return made


def read(root, name, train=True, verify=False):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cifar.load(root, train, name=name, verify=verify)


def error_of(call):
    with pytest.raises(DataError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_images_and_labels_come_in_the_order_of_the_files(tmp_path, name, protocol):
    made, source = make(tmp_path, name, protocol), cifar.SOURCES[name]
    for train, files in ((True, source.train), (False, source.test)):
        images, labels = read(tmp_path, name, train)
        assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)
        assert torch.equal(images, torch.from_numpy(np.concatenate([made[f][0] for f in files])).view(-1, 3, 32, 32))
        assert labels.tolist() == [label for f in files for label in made[f][1]]
        images[0] = 0  # not a view of something read-only


def test_the_archives_own_format(tmp_path):
    # Written by Python 2 and an old numpy: byte strings, and the module names of then. Not to be had offline.
    make(tmp_path, "cifar10")
    pixels = rows(3, seed=9)
    content = (
        b"\x80\x02}q\x00(U\x04dataq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b"
        b"\x87Rq\x04(K\x01K\x03M\x00\x0c\x86cnumpy\ndtype\nq\x05U\x02u1K\x00K\x01\x87Rq\x06(K\x03U\x01|NNNJ\xff\xff\xff"
        b"\xffJ\xff\xff\xff\xffK\x00tb\x89T" + struct.pack("<i", pixels.size) + pixels.tobytes() + b"tb"
        b"U\x06labelsq\x07]q\x08(K\x06K\x00K\x09eu."
    )
    (tmp_path / cifar.SOURCES["cifar10"].folder / "test_batch").write_bytes(content)
    images, labels = read(tmp_path, "cifar10", train=False)
    assert torch.equal(images.view(3, -1), torch.from_numpy(pixels))
    assert labels.tolist() == [6, 0, 9]


def test_checksums_are_torchvisions():
    for name, publisher in PUBLISHERS.items():
        source = cifar.SOURCES[name]
        assert source.folder == publisher.base_folder
        assert list(source.train.items()) == [tuple(pair) for pair in publisher.train_list]
        assert list(source.test.items()) == [tuple(pair) for pair in publisher.test_list]


def test_a_mirror_is_refused_unless_it_is_asked_for(tmp_path):
    make(tmp_path, "cifar10")
    message = error_of(lambda: cifar.load(tmp_path, True, name="cifar10"))
    assert "data_batch_1" in message
    assert "dataset.verify=false" in message
    with pytest.warns(UserWarning, match="differs from the original archive"):
        cifar.load(tmp_path, True, name="cifar10", verify=False)


def test_originals_are_read_without_a_warning(tmp_path, monkeypatch):
    make(tmp_path, "cifar10")
    as_original(monkeypatch, tmp_path, "cifar10")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for verify in (True, False):
            assert len(cifar.load(tmp_path, True, name="cifar10", verify=verify)[1]) == 4 + 5 + 6 + 7 + 8


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_an_error_that_names_it(tmp_path, kept):
    make(tmp_path, "cifar100")
    path = tmp_path / "cifar-100-python" / "train"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert str(path) in error_of(lambda: read(tmp_path, "cifar100"))


def test_damage_is_an_error_or_harmless_but_nothing_else(tmp_path):
    make(tmp_path, "cifar100")
    path = tmp_path / "cifar-100-python" / "train"
    content, draw, refused = path.read_bytes(), random.Random(0), 0
    structure = list(range(120)) + list(range(len(content) - 120, len(content)))
    for _ in range(300):
        damaged = bytearray(content)
        damaged[draw.choice(structure)] = draw.randrange(256)
        path.write_bytes(damaged)
        try:
            images, labels = read(tmp_path, "cifar100")
            assert images.shape == (len(labels), 3, 32, 32)
        except DataError:
            refused += 1
    assert refused > 100


class Evil:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize("call, argument", [(os.mkdir, "{}"), (eval, "__import__('os').mkdir({!r})")])
def test_a_pickle_cannot_run_anything(tmp_path, call, argument):
    make(tmp_path, "cifar10")
    trap = tmp_path / "trap"
    write(tmp_path / "cifar-10-batches-py" / "test_batch", {"data": Evil(call, argument.format(str(trap)))})
    assert "names" in error_of(lambda: read(tmp_path, "cifar10", train=False))
    assert not trap.exists()


@pytest.mark.parametrize(
    "batch",
    [
        {"data": rows(3), "labels": [0, 1]},
        {"data": rows(2).astype(np.int64), "labels": [0, 1]},
        {"data": rows(2)[:, :3000], "labels": [0, 1]},
        {"data": rows(2), "labels": [0, 10]},
        {"data": rows(2), "labels": [0, -1]},
        {"data": rows(0), "labels": []},
        {"data": rows(2), "fine_labels": [0, 1]},
        {"data": [[0] * 3072] * 2, "labels": [0, 1]},
        [1, 2],
    ],
    ids=["lengths", "type", "width", "label high", "label low", "empty", "no labels", "lists", "no dict"],
)
def test_a_batch_that_makes_no_sense_is_an_error(tmp_path, batch):
    make(tmp_path, "cifar10")
    write(tmp_path / "cifar-10-batches-py" / "test_batch", batch)
    assert "test_batch" in error_of(lambda: read(tmp_path, "cifar10", train=False))


def as_original(monkeypatch, root, name):
    """Let the files below root be the ones whose MD5 the loader knows."""
    source = cifar.SOURCES[name]
    md5 = {f: hashlib.md5((root / source.folder / f).read_bytes()).hexdigest() for f in source.train | source.test}
    changed = source._replace(train={f: md5[f] for f in source.train}, test={f: md5[f] for f in source.test})
    monkeypatch.setitem(cifar.SOURCES, name, changed)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def publish(monkeypatch, tmp_path):
    """Call it to let torchvision download an archive of the small data set below `root`, from this machine."""
    folder = tmp_path / "published"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=folder)

    def archive(root, name):
        source, publisher = cifar.SOURCES[name], PUBLISHERS[name]
        with tarfile.open(folder / publisher.filename, "w:gz") as packed:
            packed.add(root / source.folder, source.folder)
        monkeypatch.setattr(publisher, "url", f"http://127.0.0.1:{server.server_port}/{publisher.filename}")
        monkeypatch.setattr(publisher, "tgz_md5", hashlib.md5((folder / publisher.filename).read_bytes()).hexdigest())

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield archive
        server.shutdown()


@pytest.mark.parametrize("name", NAMES)
def test_missing_files_are_fetched_and_the_others_left_alone(tmp_path, monkeypatch, publish, name):
    made, source = make(tmp_path / "server", name), cifar.SOURCES[name]
    as_original(monkeypatch, tmp_path / "server", name)
    publish(tmp_path / "server", name)
    root = tmp_path / "data"
    images, _ = cifar.load(root, False, name=name)
    assert torch.equal(
        images.view(len(images), -1), torch.from_numpy(np.concatenate([made[f][0] for f in source.test]))
    )
    assert sorted(path.name for path in root.iterdir()) == [source.folder]
    assert sorted(path.name for path in (root / source.folder).iterdir()) == sorted(source.train | source.test)

    kept, lost = root / source.folder / next(iter(source.train)), root / source.folder / next(iter(source.test))
    before = kept.stat().st_mtime_ns, kept.stat().st_ino
    lost.unlink()
    cifar.fetch(root, name)
    assert lost.exists()
    assert (kept.stat().st_mtime_ns, kept.stat().st_ino) == before


def test_a_download_that_is_not_the_archive_leaves_nothing_behind(tmp_path, monkeypatch, publish):
    make(tmp_path / "server", "cifar10")
    publish(tmp_path / "server", "cifar10")  # whole, but the files' MD5s are not the known ones
    message = error_of(lambda: cifar.load(tmp_path / "data", True, name="cifar10"))
    assert "wrong MD5 of data_batch_1" in message
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", "0" * 32)
    assert "corrupted" in error_of(lambda: cifar.load(tmp_path / "data", True, name="cifar10"))
    assert list((tmp_path / "data").iterdir()) == []


def test_without_network_the_error_says_what_to_place_where(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.CIFAR100, "url", (tmp_path / "nowhere.tar.gz").as_uri())
    message = error_of(lambda: cifar.load(tmp_path / "data", True, name="cifar100"))
    for part in ("cifar-100-python.tar.gz", str(tmp_path / "data"), "train, test", "dataset.verify=false"):
        assert part in message


def test_a_folder_that_cannot_be_written_is_an_error():
    assert "/proc/none" in error_of(lambda: cifar.load("/proc/none", True, name="cifar10"))


@pytest.mark.parametrize(
    "name, mean",
    [("cifar10", (0.49139968, 0.48215841, 0.44653091)), ("cifar100", (0.50707516, 0.48654887, 0.44091784))],
)
def test_the_real_data(name, mean):
    folder = ROOT / cifar.SOURCES[name].folder
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there (POWERSGD_DATA names another place)")
    classes = cifar.SOURCES[name].classes
    for train, n in ((True, 50_000), (False, 10_000)):
        images, labels = read(ROOT, name, train)  # not verified: copies in another order are used for development
        assert images.shape == (n, 3, 32, 32)
        assert labels.bincount().tolist() == [n // classes] * classes
        if train:
            sums = images.view(n, 3, -1).sum(dim=(0, 2), dtype=torch.int64)
            assert (sums / (n * 1024 * 255)).tolist() == pytest.approx(mean, abs=1e-5)


def test_the_runs_of_a_process_share_the_files_and_leave_them_as_they_are(tmp_path, monkeypatch):
    made, reads, load = make(tmp_path / "mnist", "cifar10"), [], cifar.load
    monkeypatch.setattr(cifar, "load", lambda *args, **kwargs: reads.append(args) or load(*args, **kwargs))
    changes = {"dataset.name": "cifar10", "dataset.image_shape": (3, 32, 32), "dataset.augment": "crop_flip"}
    changes |= {"dataset.mean": (0.5, 0.5, 0.5), "dataset.std": (0.25, 0.25, 0.25), "dataset.verify": False}
    for seed in range(2):
        assert execute(make_config(tmp_path, seed=seed, **changes)).status()["state"] == "finished"
    assert reads == [(str(tmp_path / "mnist"), True), (str(tmp_path / "mnist"), False)]
    train_set, test_set = build_data(make_config(tmp_path, **changes), torch.device("cpu"))
    before = np.concatenate([made[file][0] for file in cifar.SOURCES["cifar10"].train])
    assert np.array_equal(train_set.images.flatten(1).numpy(), before)
    assert np.array_equal(test_set.images.flatten(1).numpy(), made["test_batch"][0])


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28)], ids=str)
def test_synthetic_data_can_be_learnt_and_is_the_same_every_time(shape):
    options = {"image_shape": shape, "num_classes": 10, "size": 1000}
    images, labels = synthetic.load(True, **options)
    assert (images.dtype, images.shape, labels.dtype) == (torch.uint8, (1000, *shape), torch.int64)
    assert labels.bincount().tolist() == [100] * 10
    again, other = synthetic.load(True, **options)[0], synthetic.load(True, seed=1, **options)[0]
    assert torch.equal(images, again)
    assert not torch.equal(images, other)

    unseen, truth = synthetic.load(False, **options)
    assert not torch.equal(unseen, images)
    centres = torch.stack([images[labels == c].float().mean(0) for c in range(10)])
    nearest = torch.cdist(unseen.float().flatten(1), centres.flatten(1)).argmin(1)
    assert (nearest == truth).float().mean() > 0.95
