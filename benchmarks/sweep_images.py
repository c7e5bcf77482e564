"""A data set of any size, the same on every machine: the golden photographs cropped, flipped and jittered.

python benchmarks/sweep_images.py FOLDER [COUNT] [SHARD]

Writes COUNT (10,000) PNGs of 64 x 64 into FOLDER/images, and the same bytes into tar shards of SHARD (2,500)
under FOLDER/shards. Every choice comes from counter_random, by the image's number.
"""

from __future__ import annotations

import io
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from fidelity.models.counter_random import uniform_integers

SIDE = 64
PHOTOGRAPHS = Path("golden/images")


def photographs() -> list[Image.Image]:
    """The golden photographs, RGB, in name order, the shorter side at most 512."""
    found = []
    for path in sorted(PHOTOGRAPHS.glob("*.png")):
        image = Image.open(path).convert("RGB")
        image.thumbnail((512, 512), Image.Resampling.BICUBIC)
        found.append(image)
    return found


def drawn(number: int, sources: list[Image.Image]) -> bytes:
    """Image `number` as PNG: a square of 0.35 to 1 of the shorter side, mirrored or not, gain and offset by channel."""
    words = [int(word) for word in uniform_integers(0, f"sweep.image.{number}", 12)]
    source = sources[words[0] % len(sources)]
    shorter = min(source.size)
    side = shorter * (350 + words[1] % 651) // 1000
    left, top = words[2] % (source.width - side + 1), words[3] % (source.height - side + 1)
    image = source.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    if words[4] % 2:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = np.asarray(image, dtype=np.int64)
    gain = np.array([700 + word % 601 for word in words[5:8]])
    offset = np.array([word % 61 - 30 for word in words[8:11]])
    jittered = np.clip(pixels * gain // 1000 + offset, 0, 255).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(jittered).save(content, "PNG")
    return content.getvalue()


def images(count: int) -> Iterator[tuple[str, bytes]]:
    """(name, PNG bytes) of every image, in order."""
    sources = photographs()
    for number in range(count):
        yield f"{number:07d}.png", drawn(number, sources)


def write(folder: Path, count: int, shard: int) -> None:
    """The folder and the shards. Headers carry no time and no owner: the same bytes everywhere."""
    (folder / "images").mkdir(parents=True)
    (folder / "shards").mkdir()
    archive = None
    for number, (name, content) in enumerate(images(count)):
        (folder / "images" / name).write_bytes(content)
        if number % shard == 0:
            if archive is not None:
                archive.close()
            archive = tarfile.open(folder / "shards" / f"{number // shard:05d}.tar", "w")  # noqa: SIM115 - spans turns
        member = tarfile.TarInfo(name)
        member.size = len(content)
        assert archive is not None  # noqa: S101 - number 0 opened one
        archive.addfile(member, io.BytesIO(content))
    if archive is not None:
        archive.close()


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[2:4]]
    write(Path(sys.argv[1]), *(given + [10_000, 2_500][len(given) :]))
