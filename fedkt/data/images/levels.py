"""What the numbers of raw images stand for: black and white, 0 to 255, or 0 to 1.

A model gets pixels in [0, 1]. Whole numbers are divided by 255, which makes next to nothing of pictures with
two or sixteen grey levels: so numbers that cannot be read in one way alone are refused. That is judged over
all rows of a source, training and test rows, since a few dark pictures say nothing about the rest.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedkt.errors import InputError

HALF = 128
"""Whole numbers that never pass this are no 8-bit images: those have at least 7 bits to spare."""
DIM = 16 / 255
"""Floating-point images that never pass this were divided twice, or hold fewer bits than their type."""


def bounded(where: str, x: NDArray[Any]) -> NDArray[Any]:
    """Return images, of any shape, as uint8 or as float32 in [0, 1]; True and False become 1.0 and 0.0.

    Raises InputError, which ``where`` begins, where values lie outside.
    """
    if x.dtype == bool:
        return np.ascontiguousarray(x, dtype=np.float32)
    low, high = (x.min(), x.max()) if x.size else (0, 0)
    if x.dtype.kind == "f":
        if not (low >= 0 and high <= 1):
            raise InputError(f"{where}: x spans [{low}, {high}]; floating-point images must stay in [0, 1].")
        return np.ascontiguousarray(x, dtype=np.float32)
    if low < 0 or high > 255:
        raise InputError(
            f"{where}: x spans [{low}, {high}]; images of whole numbers must stay in [0, 255], others must "
            "be divided by their largest possible value (65535 for 16 bits) and be floating-point."
        )
    return np.ascontiguousarray(x, dtype=np.uint8)


def stated(where: str, x: NDArray[Any], white: tuple[float, float]) -> NDArray[np.float32]:
    """Return images, of any shape, as float32 in [0, 1]: ``white`` says which values are black and white.

    Raises InputError, which ``where`` begins, where values lie outside.
    """
    low, high = (x.min(), x.max()) if x.size else white
    if not (low >= white[0] and high <= white[1]):
        raise InputError(
            f"{where}: x spans [{low}, {high}], but data.white is [{white[0]:g}, {white[1]:g}]; it must hold "
            "all values."
        )
    return np.ascontiguousarray((x - np.float64(white[0])) / (white[1] - white[0]), dtype=np.float32)


def read(where: str, parts: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return all images of a source, uint8 or float32 in [0, 1], as they were meant.

    ``parts``: arrays of one source. Whole numbers 0 and 1 are black and white. Raises InputError, which
    ``where`` begins, where the numbers can mean more than one thing.
    """
    made = [bounded(where, part) for part in parts]
    whole = max((int(part.max(initial=0)) for part in made if part.dtype == np.uint8), default=0)
    fractions = max((float(part.max(initial=0)) for part in made if part.dtype != np.uint8), default=0.0)
    if 0 < fractions <= DIM:
        raise InputError(
            f"{where}: x spans [0, {fractions:.3g}], next to nothing of [0, 1]; floating-point images must "
            "be divided by their largest possible value, once, or data.white say what white is."
        )
    if 1 < whole <= HALF:
        raise InputError(
            f"{where}: x spans [0, {whole}], but images of whole numbers are read as 0 to 255; where {whole} "
            f"is white, x must be divided by {whole}, else by 255, and be floating-point."
        )
    black_and_white = whole == 1
    return [part.astype(np.float32) if black_and_white else part for part in made]
