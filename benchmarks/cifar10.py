"""CIFAR-10 from a mirror that keeps its images as JPEG: decoded once, for the tables that need it.

The mirror, ``cifar10_full_jpegbytes.npz``: ``jpeg_train``, the JPEG files one after another (uint8),
``off_train``, where each begins and the last one ends, ``y_train``; the same for ``test``. The images are a
lossy copy, so every figure on them says "JPEG mirror".
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedkt.errors import InputError

MIRROR = "cifar10_full_jpegbytes.npz"
NAME = "cifar10.npz"


def decoded(source: Path, out: Path, train: int = 10_000, test: int = 2_000) -> Path:
    """Write the first images as ``OUT/cifar10.npz`` unless it is there, and return ``out``.

    ``source``: the folder of the mirror, in which every ten images are of ten classes. Raises InputError
    where it is missing.
    """
    if (out / NAME).exists():
        return out
    if not (source / MIRROR).is_file():
        raise InputError(f"{source / MIRROR} is missing; the table of CIFAR-10 is made from it.")
    with np.load(source / MIRROR, allow_pickle=False) as mirror:
        arrays: dict[str, Any] = {}
        for split, count in (("train", train), ("test", test)):
            arrays[f"x_{split}"] = images(mirror[f"jpeg_{split}"], mirror[f"off_{split}"], count)
            arrays[f"y_{split}"] = mirror[f"y_{split}"][:count]
    out.mkdir(parents=True, exist_ok=True)
    part = out / f"part-{NAME}"
    np.savez(part, **arrays)
    part.replace(out / NAME)
    return out


def images(jpeg: NDArray[np.uint8], offsets: NDArray[np.int64], count: int) -> NDArray[np.uint8]:
    """Return the first images [count, height, width, 3]."""
    files = (jpeg[offsets[i] : offsets[i + 1]].tobytes() for i in range(min(count, len(offsets) - 1)))
    return np.stack([np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files])
