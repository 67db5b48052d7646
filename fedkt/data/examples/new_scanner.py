"""Digits as another sensor sees them."""

from dataclasses import replace

from fedkt.data.sets.dataset import Split
from fedkt.data.sets.digits import digits


def inverted_digits() -> Split:
    """The bundled digits with dark and light exchanged: what a site sees whose scanner was replaced."""
    split = digits()
    assert split.test is not None
    return replace(
        split,
        train=replace(split.train, x=1 - split.train.x),
        test=replace(split.test, x=1 - split.test.x),
    )
