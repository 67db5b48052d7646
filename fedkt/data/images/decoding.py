"""Pictures of a Hugging Face table as one array, whatever the mode that each was stored in.

What an array made of a picture holds depends on Pillow's mode: of a palette it is the places in the palette,
of one bit it is True and False, of 16 bits it is 0 to 65535. Here each is what is seen.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedkt.data.images import levels
from fedkt.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

_WHITE = {"I;16": 65535, "I;16B": 65535, "I;16L": 65535, "I": 65535}
"""Of grey pictures with more than 8 bits: the value of white. Pillow opens 16-bit PNG as one of these."""


def stack(
    where: str, pictures: Iterable["Image | None"], white: tuple[float, float] | None = None
) -> NDArray[Any]:
    """Return pictures as one array [n,H,W] or, where one of them has colour, [n,H,W,3].

    uint8, or float32 in [0, 1] where one has 16 bits; ``white``: what black and white are, where it is known
    (float32 then). Grey ones among coloured ones get three equal channels.
    Raises InputError, which ``where`` begins, where one is missing, transparent, of another size than the
    others or of a mode that is none for a picture.
    """
    arrays: list[NDArray[Any]] = []
    for number, picture in enumerate(pictures):
        if picture is None:
            raise InputError(f"{where}: row {number} has no picture; every row needs one.")
        told = f"{where}: the picture of row {number}"
        arrays.append(_array(told, picture) if white is None else _stated(told, picture, white))
    sizes = sorted({array.shape[:2] for array in arrays})
    if len(sizes) > 1:
        told = " and ".join(f"{width}x{height}" for height, width in sizes[:2])
        raise InputError(f"{where}: pictures differ in size ({told}, for instance); all must be of one size.")
    if any(array.dtype != np.uint8 for array in arrays):
        arrays = [_fraction(array) for array in arrays]
    if any(array.ndim == 3 for array in arrays):
        arrays = [array if array.ndim == 3 else np.repeat(array[..., None], 3, -1) for array in arrays]
    return np.stack(arrays) if arrays else np.zeros((0, 1, 1), np.uint8)


def _stated(where: str, picture: "Image", white: tuple[float, float]) -> NDArray[Any]:
    """Return one picture [H,W] or [H,W,3] by what its values are said to mean."""
    deep = picture.mode in _WHITE or picture.mode == "F"
    return levels.stated(where, np.asarray(picture) if deep else _array(where, picture), white)


def _array(where: str, picture: "Image") -> NDArray[Any]:
    """Return one picture [H,W] or [H,W,3] as it is seen."""
    mode = picture.mode
    if mode in _WHITE:
        deep = np.asarray(picture).astype(np.float64) / _WHITE[mode]
        if deep.min(initial=0) < 0 or deep.max(initial=0) > 1:
            raise InputError(f"{where} has values beyond 16 bits; it must be saved with 8 or 16 bits.")
        return deep.astype(np.float32)
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        seen = picture.convert("RGBA")
        if np.asarray(seen)[..., 3].min(initial=255) < 255:
            raise InputError(
                f"{where} is transparent in places; it must be laid on a background and saved without alpha."
            )
        return _plain(seen.convert("RGB"), colour=mode.startswith("RGB"))
    if mode in ("1", "L"):
        return np.asarray(picture.convert("L"))
    if mode == "P":
        return _plain(picture.convert("RGB"), colour=False)
    if mode in ("RGB", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"):
        return np.asarray(picture.convert("RGB"))
    raise InputError(f"{where} has Pillow's mode '{mode}'; it must be saved in grey or colour of 8 bits.")


def _fraction(x: NDArray[Any]) -> NDArray[Any]:
    """Return pixels of 0 to 255 as float32 in [0, 1]; others as they are."""
    return x if x.dtype != np.uint8 else x.astype(np.float32) / np.float32(255)


def _plain(picture: "Image", *, colour: bool) -> NDArray[Any]:
    """Return a picture [H,W,3], or [H,W] where no pixel is coloured and its mode asks for no colour."""
    seen = np.asarray(picture)
    grey = not colour and bool((seen == seen[..., :1]).all())
    return seen[..., 0] if grey else seen
