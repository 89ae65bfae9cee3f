"""From JPEG files to training images, in images per second (best of the rounds), with each installed decoder.

  decode    encoded bytes in memory to RGB pixels, with one thread
  training  the whole pipeline in one DataLoader worker: file, pixels, random part resized to 224, flip, uint8 batch
  x plain   "training" relative to the plain pipeline in the last row: torchvision's RandomResizedCrop,
            RandomHorizontalFlip, ToTensor and Normalize on PIL images, float32 batches

shipped is data.imagenet.decode; draft lets Pillow decode at a half, a quarter or an eighth of the size if the part is
large enough, which changes the pixels. "other pixels" counts images for which a decoder differs from Pillow.

--root is a folder with JPEGs at any depth; each round reads --images of them, some repeatedly.
"""

import io
import itertools
import math
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks import timing
from data import imagenet
from data.augment import draw_box, random_view

ROOT = Path(__file__).resolve().parents[1]
SIZE = 224


def decoders():
    """{name: bytes -> uint8 [3, h, w]} of the decoders that can be imported; prints which cannot."""
    found = {"shipped": imagenet.decode, "Pillow": pillow}
    for way in (simplejpeg, torchvision_io, torchcodec, turbojpeg, opencv):
        try:
            found[way.__name__] = way()
        except (ImportError, OSError, RuntimeError) as error:
            print(f"{way.__name__}: not here ({str(error).splitlines()[0]})")
    return found


def pillow(content):
    return channels_first(np.array(Image.open(io.BytesIO(content)).convert("RGB")))


def simplejpeg():
    import simplejpeg

    return lambda content: channels_first(simplejpeg.decode_jpeg(content, "RGB"))


def torchvision_io():
    from torchvision.io import ImageReadMode, decode_image

    return lambda content: decode_image(torch.frombuffer(bytearray(content), dtype=torch.uint8), ImageReadMode.RGB)


def torchcodec():
    from torchcodec.decoders import decode_image  # pyright: ignore[reportMissingImports]

    return lambda content: decode_image(content, mode="RGB")


def turbojpeg():
    import turbojpeg  # pyright: ignore[reportMissingImports]

    jpeg = turbojpeg.TurboJPEG()
    return lambda content: channels_first(jpeg.decode(content, pixel_format=turbojpeg.TJPF_RGB))


def opencv():
    import cv2  # pyright: ignore[reportMissingImports]

    cv2.setNumThreads(1)
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    return lambda content: channels_first(cv2.imdecode(np.frombuffer(content, np.uint8), flags))


def channels_first(pixels):
    return torch.from_numpy(pixels).permute(2, 0, 1)


def draft_view(content, generator):
    picture = Image.open(io.BytesIO(content))
    width, height = picture.size
    top, left, h, w = draw_box(height, width, generator)
    picture.draft("RGB", (math.ceil(width * SIZE / w), math.ceil(height * SIZE / h)))
    picture = picture.convert("RGB")
    x, y = picture.width / width, picture.height / height
    box = (left * x, top * y, (left + w) * x, (top + h) * y)
    view = picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=box)
    return channels_first(np.array(view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)))


PLAIN = transforms.Compose(
    [
        transforms.RandomResizedCrop(SIZE),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
)


class Views(Dataset):
    def __init__(self, files, view):
        self.files, self.view = files, view

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        return self.view(self.files[index].read_bytes(), torch.Generator().manual_seed(index))


def training(files, view):
    """A function that serves all files once, from one worker that stays alive between calls."""
    loader = DataLoader(Views(files, view), batch_size=50, num_workers=1, persistent_workers=True)
    return lambda: exhaust(loader)


def exhaust(items):
    for _ in items:
        pass


def other_pixels(decode, contents):
    return sum(not torch.equal(decode(content), pillow(content)) for content in contents)


def main():
    parser = timing.parser(__doc__)
    parser.add_argument("--root", type=Path, default=Path(os.environ.get("POWERSGD_DATA", ROOT / "downloads")))
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # torchvision.io's, on every call
    found = sorted(path for path in args.root.rglob("*") if path.suffix.lower() in (".jpeg", ".jpg"))
    if not found:
        sys.exit(f"no JPEG below {args.root}; name a folder of them with --root")
    files = list(itertools.islice(itertools.cycle(found), args.images))
    contents = [path.read_bytes() for path in files]
    named = decoders()
    print(f"{len(found)} files; shipped uses {'simplejpeg' if imagenet.simplejpeg else 'Pillow'}")

    views = {name: lambda c, g, decode=decode: random_view(decode(c), SIZE, g) for name, decode in named.items()}
    views |= {"Pillow draft": draft_view, "plain": lambda c, g: PLAIN(Image.open(io.BytesIO(c)).convert("RGB"))}
    decode = timing.seconds({name: lambda d=d: exhaust(map(d, contents)) for name, d in named.items()}, args.rounds)
    whole = timing.seconds({name: training(files, view) for name, view in views.items()}, args.rounds)
    table = {}
    for name, times in whole.items():
        table[name] = {
            "decode": len(files) / decode[name]["best"] if name in decode else math.nan,
            "training": len(files) / times["best"],
            "x plain": whole["plain"]["best"] / times["best"],
            "other pixels": other_pixels(named[name], contents[: len(found)]) if name in named else math.nan,
        }
    timing.print_table(table, [], unit="images a second")
    timing.write_json(args.json, {"decode": decode, "training": whole}, benchmark="imagenet_decode", files=len(found))


if __name__ == "__main__":
    main()
