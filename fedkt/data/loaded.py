"""The data sets that a scenario names, loaded, and what of them and its settings does not fit together."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedkt.data.sets.dataset import Dataset, Labels, Split
from fedkt.data.sets.reading import load_dataset
from fedkt.errors import InputError

if TYPE_CHECKING:
    from fedkt.scenario import Data


def constants(data: "Data") -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    if data.normalise is None:
        return None
    return tuple(data.normalise.mean), tuple(data.normalise.std)


def load_named(data: "Data", data_dir: Path | None) -> tuple[Split, Split | None, dict[str, Dataset]]:
    """Load the private set, that of ``data.test``, and what transfer and public rows are drawn from."""
    problems: list[str] = []

    def attempt(where: str, spec: Any, column: str | None = None) -> Split | None:
        try:
            return with_target(load_dataset(spec, data_dir, data.image, column=column), data.target)
        except InputError as error:
            problems.extend(f"{where}: {problem}" for problem in error.problems)
            return None

    split = attempt("data.dataset", data.dataset, data.partition.column)
    test = attempt("data.test", data.test) if data.test is not None else None
    extras = {}
    loaded: dict[str, Split | None] = {}
    for name, setting in (("transfer", data.transfer), ("public", data.public)):
        if setting is None or setting.from_ == "train":
            continue
        if setting.from_ not in loaded:
            loaded[setting.from_] = attempt(f"data.{name}.from", setting.from_)
        source = loaded.get(setting.from_)
        if source is not None:
            extras[name] = source.train
    if problems or split is None:
        raise InputError(*problems)
    return split, test, extras


def with_target(split: Split, target: str | None) -> Split:
    """Make two classes of the labels: whether ``y>N`` holds."""
    if target is None:
        return split
    limit = float(target.partition(">")[2])
    train, test = (
        None if part is None else replace(part, y=(part.y > limit).astype(np.int64))
        for part in (split.train, split.test)
    )
    assert train is not None
    return Split(train, test, 2)


def _check_normalise(data: "Data", train: Dataset) -> list[str]:
    if data.normalise is None:
        return []
    if train.kind != "image":
        return [f"data.normalise is set but the data is {train.kind}; it must be left out."]
    channels = data.image.channels if data.image is not None else train.shape[0]
    return [
        f"data.normalise.{name} has {len(numbers)} numbers but images have {channels} channels; "
        f"it must have 1 or {channels}."
        for name, numbers in (("mean", data.normalise.mean), ("std", data.normalise.std))
        if len(numbers) not in (1, channels)
    ]


def check_settings(
    data: "Data", split: Split, common: Dataset | None, extras: dict[str, Dataset]
) -> list[str]:
    """Return what does not fit together, of settings and loaded sets."""
    train = split.train
    problems = []
    if data.image is not None and train.kind != "image":
        problems.append(f"data.image is set but the data is {train.kind}; it must be left out.")
    problems += _check_normalise(data, train)
    if train.kind != "tabular":
        problems += [
            f"data.{name} is set but the data is {train.kind}; it must be left out."
            for name in ("missing", "standardise")
            if getattr(data, name)
        ]
    sources = {
        "data.test": common,
        "data.transfer.from": extras.get("transfer"),
        "data.public.from": extras.get("public"),
    }
    for where, part in sources.items():
        if part is None:
            continue
        if part.kind != train.kind:
            problems.append(
                f"{where} is {part.kind} but data.dataset is {train.kind}; they must be of one kind."
            )
        elif part.shape != train.shape and data.image is None:
            remedy = "data.image must bring both to one" if train.kind == "image" else "they must match"
            problems.append(
                f"a row of {where} has shape {part.shape} but one of data.dataset {train.shape}; {remedy}."
            )
        if where != "data.transfer.from" and part.y.max(initial=0) >= split.classes:
            problems.append(
                f"{where} holds label {part.y.max()} but data.dataset has {split.classes} classes; "
                f"its labels must lie in 0 to {split.classes - 1}."
            )
    holes = [
        part for part in (train, split.test, *sources.values()) if part is not None and part.kind == "tabular"
    ]
    if data.missing is None and any(np.isnan(part.x).any() for part in holes):
        problems.append("values are missing (NaN) in the data; data.missing must be mean, median or zero.")
    return problems


def check_classes(labels: Labels, classes: int) -> list[str]:
    """Return which classes have no training row at all."""
    if classes < 2:
        return [f"the data has {classes} class; at least 2 are needed."]
    lost = np.setdiff1d(np.arange(classes), labels)
    if not len(lost):
        return []
    which = f"class {lost[0]}" if len(lost) == 1 else f"classes {', '.join(map(str, lost[:10]))}"
    return [
        f"no row of {which} is left to deal, so no client can hold it; labels must be "
        f"0 to {classes - 1}, with "
        "training rows of each besides those held out."
    ]
