"""The data sets that a scenario names, loaded, and what of them and its settings does not fit together."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedkt import registry
from fedkt.data.columns.choices import Choices, Form
from fedkt.data.columns.labels import listed, renamed
from fedkt.data.made.stock import made_of
from fedkt.data.sets.dataset import Dataset, InputSpec, Split
from fedkt.data.sets.joining import sized, together
from fedkt.data.sets.preprocess import Preprocess
from fedkt.data.sets.reading import load_dataset
from fedkt.data.sets.spreading import blanked
from fedkt.errors import InputError
from fedkt.registry import did_you_mean
from fedkt.tasks import named

if TYPE_CHECKING:
    from fedkt.scenario import Data, Scenario


Constants = tuple[tuple[float, ...], tuple[float, ...]]


def constants(data: "Data", transfer: Dataset | None, input_: InputSpec) -> Constants | None:
    """Return mean and deviation that images are normalised by, None where they are not.

    Where the scenario gives none they are those of the transfer set, per channel, as models see it: public
    rows, so that no private one goes into them and all parties have the same.
    """
    if data.normalise is not None and not isinstance(data.normalise, str):
        return tuple(data.normalise.mean), tuple(data.normalise.std)
    if data.normalise == "none" or transfer is None or input_.kind != "image":
        return None
    pixels = Preprocess(input_).tensor(transfer.x).double()
    mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3), correction=0)
    # A constant channel's deviation is 0 but for rounding.
    return tuple(mean.tolist()), tuple(1.0 if d <= 1e-6 else d for d in std.tolist())


def choices_of(scenario: "Scenario") -> Choices:
    """Return what a scenario decides about reading data; its models decide what whole numbers are."""
    taken: set[str] = {"tabular", "tokens"}
    for spec in scenario.clients.models:
        name = spec if isinstance(spec, str) else getattr(spec, "name", None)
        try:
            kinds = getattr(registry.find("models", name), "takes", None)
        except InputError:
            kinds = None  # said where models are built
        taken &= taken if kinds is None else set(kinds)
        if kinds is None:
            break
    else:
        forms: dict[str, Form] = {"tabular": "table", "tokens": "tokens"}
        if len(taken) == 1:
            return Choices.of(scenario.data, forms[taken.pop()])
    return Choices.of(scenario.data)


def load_named(
    data: "Data", data_dir: Path | None, choices: Choices
) -> tuple[Split, Split | None, dict[str, Dataset], dict[str, list[tuple[str, str]]]]:
    """Load the private set, that of ``data.test``, and what transfer and public rows are drawn from.

    All have one order of columns and one number per label. Returns also what was left out of each.
    """
    problems: list[str] = []
    if data.site is not None and not isinstance(data.dataset, str):
        raise InputError(
            "data.site names a column, but data.dataset is a mapping, whose names are the sites; one must be "
            "left out."
        )

    def attempt(where: str, spec: Any, choices: Choices, column: str | None = None) -> Split | None:
        try:
            return load_dataset(spec, data_dir, data.image, column=column, choices=choices)
        except InputError as error:
            problems.extend(f"{where}: {problem}" for problem in error.problems)
            return None

    # Names of a site's own become the common ones below.
    private = replace(choices, labels=None) if data.label_maps else choices
    split = attempt("data.dataset", data.dataset, private, data.partition.column)
    test = attempt("data.test", data.test, choices) if data.test is not None else None
    sources: dict[str, str] = {}
    loaded: dict[str, Split | None] = {}
    # The public set first: its labels are read, those of transfer rows are not.
    for name, setting in (("public", data.public), ("transfer", data.transfer)):
        if setting is None or setting.from_ == "train" or setting is made_of(data):
            continue
        if setting.from_ not in loaded:
            said = choices if name == "public" else choices.unlabelled
            loaded[setting.from_] = attempt(f"data.{name}.from", setting.from_, said)
        if loaded[setting.from_] is not None:
            sources[name] = setting.from_
    if problems or split is None:
        raise InputError(*problems)
    _check_sites(data, split.train)
    split = replace(
        split,
        train=blanked("data.dataset", split.train, choices),
        test=None if split.test is None else blanked("data.dataset", split.test, choices),
    )
    split = _commonly_named(data, split)
    others = {f"data.{name}.from": found for name, of in sources.items() if (found := loaded[of]) is not None}
    splits = {"data.dataset": split, **({} if test is None else {"data.test": test}), **others}
    out = {where: list(held.left_out) for where, held in splits.items()}
    _check_dropped(choices, out)
    parts = {}
    for where, held in splits.items():
        parts[where] = held.train
        if held.test is not None:
            parts[f"test rows of {where}"] = held.test
    made = together(parts, choices)
    done = {
        where: sized(made[where], made.get(f"test rows of {where}"), 0 if held.label_names else held.classes)
        for where, held in splits.items()
    }
    _check_copies(done["data.dataset"].train, choices)
    extras = {name: done[f"data.{name}.from"].train for name in sources}
    return done["data.dataset"], done.get("data.test"), extras, out


def _commonly_named(data: "Data", split: Split) -> Split:
    """Return rows of sites that call classes by names of their own, by the common ones."""
    if not data.label_maps:
        return split
    if data.task != "classification":
        raise InputError(
            f"data.labels is per-site, but data.task is {data.task}; sites can have classes only."
        )
    if split.train.domain is None:
        raise InputError("data.label_maps speaks of sites, but the rows of data.dataset have none.")
    parts = [part for part in (split.train, split.test) if part is not None]
    whole = [np.concatenate([getattr(part, what) for part in parts]) for what in ("y", "domain")]
    y, names = renamed("data.dataset", whole[0], split.label_names, whole[1], data.label_maps, data.classes)
    train = replace(split.train, y=y[: len(split.train)], label_names=names)
    test = None if split.test is None else replace(split.test, y=y[len(train) :], label_names=names)
    return replace(split, train=train, test=test, classes=len(names))


def _check_sites(data: "Data", train: Dataset) -> None:
    """Refuse a column of sites that is not there, and columns of sites that have no rows."""
    if isinstance(data.columns, dict) and train.domain is not None:
        sites = np.unique(train.domain).tolist()
        problems = [
            f"data.columns names '{name}', which is no site of data.dataset; {did_you_mean(name, sites)}"
            for name in data.columns
            if name not in sites
        ]
        if problems:
            raise InputError(*problems)
    if data.site is not None and train.domain is None:
        names = list(train.columns or ())
        hint = did_you_mean(data.site, names) if names else "its rows have no columns by name."
        raise InputError(f"data.dataset has no column {data.site!r}, which data.site names; {hint}")


def _check_dropped(choices: Choices, out: dict[str, list[tuple[str, str]]]) -> None:
    """Refuse names in ``data.drop`` that no source has."""
    found = {name for held in out.values() for name, why in held if why == "data.drop"}
    unknown = [name for name in choices.drop if name not in found]
    if unknown:
        raise InputError(f"data.drop names {listed(unknown, repr)}, which no data set has as a column.")


def _check_copies(train: Dataset, choices: Choices) -> None:
    """Refuse columns by name that say the label of every row, unless they were asked for."""
    if train.kind != "tabular" or train.columns is None or choices.columns is not None:
        return
    copies = [train.columns[i] for i in named(choices.task).copies(train.y, train.x)]
    if copies:
        raise InputError(
            f"data.dataset: {listed(copies, repr)} says the label of every row; data.drop must name what is "
            "a copy of the label, or data.columns all columns that are meant."
        )


def _check_normalise(data: "Data", train: Dataset, *, transfer: bool) -> list[str]:
    if data.normalise is None or data.normalise == "none":
        return []
    if train.kind != "image":
        return [f"data.normalise is set but the data is {train.kind}; it must be left out."]
    if data.normalise == "transfer":
        return (
            []
            if transfer
            else [
                "data.normalise is 'transfer', but there is no transfer set; there must be one, or constants "
                "such as {mean: [0.5], std: [0.25]}."
            ]
        )
    channels = data.image.channels if data.image is not None else train.shape[0]
    return [
        f"data.normalise.{name} has {len(numbers)} numbers but images have {channels} channels; "
        f"it must have 1 or {channels}."
        for name, numbers in (("mean", data.normalise.mean), ("std", data.normalise.std))
        if len(numbers) not in (1, channels)
    ]


def check_settings(
    data: "Data", split: Split, common: Dataset | None, extras: dict[str, Dataset], *, transfer: bool
) -> list[str]:
    """Return what does not fit together, of settings and loaded sets; ``transfer``: there is to be one."""
    train = split.train
    problems = []
    if data.image is not None and train.kind != "image":
        problems.append(f"data.image is set but the data is {train.kind}; it must be left out.")
    problems += _check_normalise(data, train, transfer=transfer)
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
        if where != "data.transfer.from" and part.y.ndim == 1 and part.y.max(initial=0) >= split.classes:
            held = "" if part.label_names is None else f" ({part.label_names[part.y.max()]})"
            problems.append(
                f"{where} holds label {part.y.max()}{held} but data.dataset has {split.classes} classes; "
                f"its labels must lie in 0 to {split.classes - 1}."
            )
    holes = [
        part for part in (train, split.test, *sources.values()) if part is not None and part.kind == "tabular"
    ]
    if data.missing is None and any(np.isnan(part.x).any() for part in holes):
        problems.append("values are missing (NaN) in the data; data.missing must be mean, median or zero.")
    return problems
