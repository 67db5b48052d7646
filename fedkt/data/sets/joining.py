"""Sets of one federation brought together: columns and labels by name, domains as one set of rows."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fedkt.data.columns.choices import Choices
from fedkt.data.columns.labels import listed, vocabulary
from fedkt.data.columns.named import LeftOut, order_of
from fedkt.data.images import levels
from fedkt.data.sets.dataset import AS_READ, Dataset, Split, concat
from fedkt.data.sets.preprocess import fit_raw
from fedkt.data.sets.spreading import joined
from fedkt.errors import InputError
from fedkt.tasks import Targets

if TYPE_CHECKING:
    from fedkt.scenario import Image


def together(parts: Mapping[str, Dataset], choices: Choices = AS_READ) -> dict[str, Dataset]:
    """Give sets of one federation one order of columns and one number per label's name.

    ``parts``: by the words that an error's sentence has for each; the first that has names of columns decides
    their order. Whole numbers that were read as token ids become a table where another part is one. Raises
    InputError where columns or labels cannot be matched by their names.
    """
    made, problems = dict(parts), list[str]()
    tables = [part for part in made.values() if part.kind == "tabular"]
    ids = {name: part for name, part in made.items() if part.kind == "tokens"}
    if tables and ids and all(part.whole for part in ids.values()):
        for name, part in ids.items():
            made[name] = replace(part, x=part.x.astype(np.float64), kind="tabular", vocabulary=0)
    first = next((name for name, part in made.items() if part.columns is not None), None)
    for name, part in made.items():
        reference = None if first is None else made[first].columns
        if reference is None or part.columns is None or part.columns == reference:
            continue
        try:
            order = order_of(name, part.columns, reference, str(first), part.left_out)
            made[name] = replace(part, x=part.x[:, order], columns=reference)
        except InputError as error:
            problems.extend(error.problems)
    problems += several_outputs(made, choices.labels) + _several_graphs(made)
    labelled = {name: p for name, p in made.items() if len(p) and p.y.ndim == 1 and p.y.min() >= 0}
    try:
        common = vocabulary(
            {name: part.label_names for name, part in labelled.items()}, choices.labels, choices.named_by
        )
    except InputError as error:
        raise InputError(*problems, *error.problems) from None
    if problems:
        raise InputError(*problems)
    made = joined(made)
    for name, (names, become) in common.items():
        part = made[name]
        if part.label_names is None and names is not None and part.y.max() >= len(names):
            problems.append(
                f"{name} holds label {part.y.max()}, but {choices.named_by} names {len(names)} classes; "
                "it must name all."
            )
            continue
        made[name] = replace(part, y=part.y if become is None else become[part.y], label_names=names)
    if problems:
        raise InputError(*problems)
    if choices.labels is not None:
        made = {n: replace(p, label_names=choices.labels) if p.y.ndim == 2 else p for n, p in made.items()}
    return made


def _several_graphs(parts: Mapping[str, Dataset]) -> list[str]:
    """Return which sets of links number entities or relations unlike the first."""
    held = {name: part.graph for name, part in parts.items() if part.graph is not None}
    first = next(iter(held), "")
    return [
        f"{name} holds other entities or relations than {first}; entities.txt and relations.txt beside both "
        "must list the names of all."
        for name, graph in held.items()
        if graph != held[first]
    ]


def several_outputs(parts: Mapping[str, Dataset], given: tuple[str, ...] | None) -> list[str]:
    """Return where targets of several columns do not fit those of the first part, or ``data.labels``."""
    several = {name: part for name, part in parts.items() if part.y.ndim == 2}
    found: list[str] = []
    if not several:
        return found
    first, reference = next(iter(several.items()))
    names = given or reference.label_names
    for name, part in several.items():
        if part.y.shape[1] != reference.y.shape[1]:
            found.append(
                f"{name} has {part.y.shape[1]} targets per row but {first} {reference.y.shape[1]}; they must "
                "be the same."
            )
        elif names is not None and part.label_names not in (None, names):
            whose = "data.labels" if given else first
            found.append(
                f"the targets of {name} are {listed(part.label_names or ())}, but those of {whose} "
                f"{listed(names)}; they must have one order."
            )
    if given is not None and len(given) != reference.y.shape[1]:
        found.append(
            f"data.labels names {len(given)} labels, but {first} has {reference.y.shape[1]}; it must name "
            "each."
        )
    return found


def split_of(
    where: str,
    train: Dataset,
    test: Dataset | None,
    classes: int = 0,
    *,
    choices: Choices = AS_READ,
    left_out: Sequence[LeftOut] = (),
) -> Split:
    """Make a Split of at least ``classes`` classes; raises InputError where the two halves do not fit.

    ``left_out``: what the source holds beside them and was not read.
    """
    if test is not None:
        names = f"{where}: training rows", f"{where}: test rows"
        train, test = together(dict(zip(names, (train, test), strict=True)), choices).values()
        if test.kind != train.kind:
            raise InputError(f"{where}: training rows are {train.kind} but test rows are {test.kind}.")
        if test.shape != train.shape:
            raise InputError(
                f"{where}: a training row has shape {train.shape} but a test row "
                f"{test.shape}; they must match."
            )
    if choices.white is None:
        train, test = _levels(where, train, test)
    return sized(train, test, classes, left_out)


def _levels(where: str, train: Dataset, test: Dataset | None) -> tuple[Dataset, Dataset | None]:
    """Return the two halves of a source with images read as they were meant."""
    if train.kind != "image":
        return train, test
    read = levels.read(where, [train.x] if test is None else [train.x, test.x])
    return replace(train, x=read[0]), None if test is None else replace(test, x=read[1])


def sized(train: Dataset, test: Dataset | None, classes: int = 0, left_out: Sequence[LeftOut] = ()) -> Split:
    """Make a Split with as many classes as there are names, labels or ``classes``, whichever is most."""
    outputs = max(outputs_of(part.y) for part in (train, test) if part is not None and len(part))
    held = [*left_out, *train.left_out, *(() if test is None else test.left_out)]
    return Split(train, test, max(classes, outputs, len(train.label_names or ())), tuple(dict.fromkeys(held)))


def outputs_of(y: Targets) -> int:
    """Return how many outputs targets ask for: one more than the highest class, or as many as columns.

    >>> outputs_of(np.array([0, 2])), outputs_of(np.zeros((5, 4), np.float32))
    (3, 4)
    """
    return int(y.shape[1]) if y.ndim == 2 else int(y.max()) + 1


def join_domains(
    where: str, splits: Mapping[str, Split], image: "Image | None", choices: Choices = AS_READ
) -> Split:
    """Join one Split per domain, whose name every row gets.

    Images of different shapes are brought to that of ``image``. Raises InputError where that is not enough.
    """
    prefix = f"{where}: " if where else ""
    parts = {f"{prefix}domain '{name}'": split.train for name, split in splits.items()}
    parts |= {
        f"{prefix}test rows of domain '{name}'": split.test
        for name, split in splits.items()
        if split.test is not None
    }
    made = together(parts, choices)
    named = {}
    for name, split in splits.items():
        test = None if split.test is None else made[f"{prefix}test rows of domain '{name}'"]
        train = made[f"{prefix}domain '{name}'"]
        named[name] = (_in_domain(train, name), None if test is None else _in_domain(test, name))
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
    return sized(
        concat(trains),
        concat(tests) if tests else None,
        max(split.classes for split in splits.values()),
        [out for split in splits.values() for out in split.left_out],
    )


def _in_domain(part: Dataset, name: str) -> Dataset:
    return replace(part, domain=np.full(len(part), name))


def _shape_text(shape: tuple[int, ...]) -> str:
    """Return e.g. ``28x28 grey``."""
    return f"{shape[1]}x{shape[2]} {'grey' if shape[0] == 1 else 'colour'}"
