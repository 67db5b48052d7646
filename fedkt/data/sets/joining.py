"""Data sets of several domains as one, with the domain's name at every row."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fedkt.data.sets.dataset import Dataset, Split, concat
from fedkt.data.sets.preprocess import fit_raw
from fedkt.errors import InputError

if TYPE_CHECKING:
    from fedkt.scenario import Image


def join_domains(where: str, splits: Mapping[str, Split], image: "Image | None") -> Split:
    """Join one Split per domain, whose name every row gets.

    Images of different shapes are brought to that of ``image``. Raises InputError where that is not enough.
    """
    prefix = f"{where}: " if where else ""
    named = {
        name: (_in_domain(split.train, name), None if split.test is None else _in_domain(split.test, name))
        for name, split in splits.items()
    }
    first, (reference, _) = next(iter(named.items()))
    problems = []
    shapes = {train.shape for train, _ in named.values()}
    for name, (train, _) in named.items():
        if train.kind != reference.kind:
            problems.append(
                f"{prefix}domain '{first}' is {reference.kind} but '{name}' is {train.kind}; "
                "all domains must be of one kind."
            )
        elif train.shape != reference.shape and train.kind != "image":
            problems.append(
                f"{prefix}a row of domain '{first}' has shape {reference.shape} but one of '{name}' "
                f"{train.shape}; they must match."
            )
        elif train.shape != reference.shape and image is None:
            problems.append(
                f"{prefix}images of domain '{first}' are "
                f"{_shape_text(reference.shape)} but those of '{name}' "
                f"{_shape_text(train.shape)}; data.image must give them one size and number of channels."
            )
    if problems:
        raise InputError(*problems)
    trains = [train for train, _ in named.values()]
    tests = [test for _, test in named.values() if test is not None]
    if len(shapes) > 1 and image is not None:
        trains = [replace(part, x=fit_raw(part.x, image.size, image.channels)) for part in trains]
        tests = [replace(part, x=fit_raw(part.x, image.size, image.channels)) for part in tests]
    return Split(
        concat(trains), concat(tests) if tests else None, max(split.classes for split in splits.values())
    )


def _in_domain(part: Dataset, name: str) -> Dataset:
    return replace(part, domain=np.full(len(part), name))


def _shape_text(shape: tuple[int, ...]) -> str:
    """Return e.g. ``28x28 grey``."""
    return f"{shape[1]}x{shape[2]} {'grey' if shape[0] == 1 else 'colour'}"
