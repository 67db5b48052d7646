"""Data sets in memory, and finding one from what a scenario writes for it.

A specification is one of

``digits``
    or another registered name (entry points ``fedkt.datasets``).
``npz:FILE``, ``npz:FILE#DOMAIN``
    see :mod:`fedkt.data.npz`.
``hf:NAME``
    see :mod:`fedkt.data.hub`.
``package.module:function``
    called without arguments, or with ``data_dir`` (a Path or None) where it has such a parameter. It
    returns ``x, y``, or ``x, y, domain`` with a name per row (a seeded 20 % is then held out as test rows
    when a federation is built), or a :class:`Split`.
a mapping from domains to specifications
    all rows of each become rows of that domain.

What kind of data an array holds follows from its form alone:

=========== ==================================================================================
image       3 dimensions [n,H,W], or 4: [n,H,W,C] or [n,C,H,W] with C of 1 or 3; uint8 or [0,1]
tokens      text, or 2 dimensions of int32 or int64 (ids; 0 is padding)
tabular     2 dimensions of anything else (NaN is a missing value)
sparse      a SciPy sparse matrix
=========== ==================================================================================
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedkt import registry
from fedkt.data.text import VOCABULARY, tokenise
from fedkt.errors import InputError

if TYPE_CHECKING:
    from fedkt.scenario import Image

Kind = Literal["image", "tabular", "tokens", "sparse"]
Labels = NDArray[np.int64]
Names = NDArray[np.str_]


@dataclass(frozen=True)
class InputSpec:
    """What a model gets: ``shape`` of one row, (C,H,W), (d,) or (L,); ``vocabulary``: tokens only, else 0."""

    kind: Kind
    shape: tuple[int, ...]
    vocabulary: int = 0


@dataclass(frozen=True, eq=False)
class Dataset:
    """Raw rows and their labels.

    ``x``: images NCHW, uint8 or float32 in [0,1]; tabular float32 [n,d]; tokens int64 [n,L], 0 is padding;
    sparse float32 CSR [n,d]. ``y`` int64 [n], -1 where there is none. ``domain`` and ``ids``: a name per
    row, or None; ``ids`` are the natural ids by which rows can be dealt. ``vocabulary``: number of token
    ids, 0 for other kinds.
    """

    x: Any
    y: Labels
    domain: Names | None
    kind: Kind
    ids: Names | None = None
    vocabulary: int = 0

    def __len__(self) -> int:
        return len(self.y)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return tuple(int(n) for n in self.x.shape[1:])

    def take(self, rows: NDArray[np.int64]) -> "Dataset":
        """Return a copy of these rows, in this order."""
        return replace(
            self,
            x=self.x[rows],
            y=self.y[rows],
            domain=None if self.domain is None else self.domain[rows],
            ids=None if self.ids is None else self.ids[rows],
        )


@dataclass(frozen=True, eq=False)
class Split:
    """Training rows, test rows where the source has them, and the number of classes."""

    train: Dataset
    test: Dataset | None
    classes: int


def load_dataset(
    spec: Any, data_dir: Path | None = None, image: "Image | None" = None, *, column: str | None = None
) -> Split:
    """Load what ``spec`` stands for (see above).

    ``image`` is used only where domains must be brought to one shape to become one array; otherwise the
    rows stay raw. ``column`` names the natural ids of npz files and Hugging Face data sets.
    Raises InputError with all problems that were found.
    """
    if isinstance(spec, Mapping):
        return _load_domains(spec, data_dir, image, column)
    if isinstance(spec, str) and spec.startswith("npz:"):
        from fedkt.data.npz import load_npz

        return load_npz(spec.removeprefix("npz:"), data_dir, image, column)
    if isinstance(spec, str) and spec.startswith("hf:"):
        from fedkt.data.hub import load_hub

        return load_hub(spec.removeprefix("hf:"), data_dir, column)
    return _call(registry.find("datasets", spec), str(spec), data_dir)


def dataset_of(where: str, x: Any, y: Any, *, domain: Any = None, ids: Any = None) -> Dataset:
    """Make a Dataset of raw arrays; ``where`` begins the sentences of the InputError if they are no data."""
    problems: list[str] = []
    rows: Any = None
    kind: Kind = "tabular"
    vocabulary = 0
    labels = np.zeros(0, np.int64)
    try:
        rows, kind, vocabulary = _rows_of(where, x)
    except InputError as error:
        problems.extend(error.problems)
    try:
        labels = _labels_of(where, y)
    except InputError as error:
        problems.extend(error.problems)
    if problems:
        raise InputError(*problems)
    names = {"domain": domain, "ids": ids}
    for what, values in [("y", labels), *names.items()]:
        if values is not None and len(values) != rows.shape[0]:
            problems.append(
                f"{where}: x has {rows.shape[0]} rows but {what} has {len(values)}; they must match."
            )
    if len(labels) == 0:
        problems.append(f"{where} has no rows; at least one is needed.")
    if problems:
        raise InputError(*problems)
    named = {
        what: None if values is None else np.asarray(values).astype(str) for what, values in names.items()
    }
    return Dataset(rows, labels, named["domain"], kind, named["ids"], vocabulary)


def split_of(where: str, train: Dataset, test: Dataset | None, classes: int = 0) -> Split:
    """Make a Split of at least ``classes`` classes; raises InputError where the two halves do not fit."""
    if test is not None:
        if test.kind != train.kind:
            raise InputError(f"{where}: training rows are {train.kind} but test rows are {test.kind}.")
        if test.shape != train.shape:
            raise InputError(
                f"{where}: a training row has shape {train.shape} but a test row "
                f"{test.shape}; they must match."
            )
    highest = max(int(part.y.max()) for part in (train, test) if part is not None and len(part))
    return Split(train, test, max(classes, highest + 1))


def concat(parts: Sequence[Dataset]) -> Dataset:
    """Join data sets of one kind and row shape; names that a part lacks become empty ones."""
    if len(parts) == 1:
        return parts[0]
    kind = parts[0].kind
    if kind == "sparse":
        from scipy import sparse

        x: Any = sparse.vstack([part.x for part in parts], format="csr")
    elif kind == "image" and len({part.x.dtype for part in parts}) > 1:
        x = np.concatenate([_as_float(part.x) for part in parts])
    else:
        x = np.concatenate([part.x for part in parts])
    return Dataset(
        x,
        np.concatenate([part.y for part in parts]),
        _join_names([(part.domain, len(part)) for part in parts]),
        kind,
        _join_names([(part.ids, len(part)) for part in parts]),
        max(part.vocabulary for part in parts),
    )


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
        from fedkt.data.preprocess import fit_raw

        trains = [replace(part, x=fit_raw(part.x, image.size, image.channels)) for part in trains]
        tests = [replace(part, x=fit_raw(part.x, image.size, image.channels)) for part in tests]
    return Split(
        concat(trains), concat(tests) if tests else None, max(split.classes for split in splits.values())
    )


def _load_domains(
    spec: Mapping[str, Any], data_dir: Path | None, image: "Image | None", column: str | None
) -> Split:
    splits: dict[str, Split] = {}
    problems: list[str] = []
    for name, part in spec.items():
        try:
            splits[str(name)] = load_dataset(part, data_dir, image, column=column)
        except InputError as error:
            problems.extend(f"domain '{name}': {problem}" for problem in error.problems)
    if not spec:
        problems.append("a mapping from domains to data sets is empty; it must name at least one domain.")
    if problems:
        raise InputError(*problems)
    return join_domains("", splits, image)


def _call(function: Any, spec: str, data_dir: Path | None) -> Split:
    """Call a data set function and check what it returns."""
    where = f"data set {spec!r}"
    if not callable(function):
        raise InputError(
            f"{where} is a {type(function).__name__}; it must be a function that returns the data."
        )
    takes_folder = "data_dir" in inspect.signature(function).parameters
    made = function(data_dir=data_dir) if takes_folder else function()
    if isinstance(made, Split):
        return split_of(where, made.train, made.test, made.classes)
    if not isinstance(made, tuple) or len(made) not in (2, 3):
        raise InputError(
            f"{where} returned a {type(made).__name__}; it must return x, y or x, y, domain or a Split."
        )
    domain = made[2] if len(made) == 3 else None
    return split_of(where, dataset_of(where, made[0], made[1], domain=domain), None)


def _rows_of(where: str, x: Any) -> tuple[Any, Kind, int]:
    """Return rows in their raw form, their kind, and the vocabulary of tokens."""
    if hasattr(x, "tocsr"):
        rows = x.tocsr().astype(np.float32)
        rows.sum_duplicates()
        if not np.isfinite(rows.data).all():
            raise InputError(f"{where}: x holds NaN or infinity; sparse rows must be finite.")
        return rows, "sparse", 0
    x = np.asarray(x)
    if x.dtype.kind in "UST" or (x.dtype == object and x.size and isinstance(x.flat[0], str)):
        if x.ndim != 1:
            raise InputError(f"{where}: x is text of {x.ndim} dimensions; it must have one, a text per row.")
        texts = np.char.decode(x, "utf-8") if x.dtype.kind == "S" else x
        return tokenise(texts.tolist()), "tokens", VOCABULARY
    if x.dtype.kind not in "biuf":
        raise InputError(f"{where}: x is of type {x.dtype}; it must be numbers, text or a sparse matrix.")
    if x.ndim in (3, 4):
        return _images_of(where, x), "image", 0
    if x.ndim != 2:
        raise InputError(
            f"{where}: x has shape {x.shape}; rows must be images (3 or 4 dimensions), "
            "vectors (2) or text (1)."
        )
    if x.dtype in (np.int32, np.int64):
        if x.size and x.min() < 0:
            raise InputError(
                f"{where}: x is of type {x.dtype}, so it is read as token ids, and holds {x.min()}; "
                "ids must be at least 0, and columns of a table must be floating-point numbers."
            )
        return x.astype(np.int64), "tokens", int(x.max(initial=0)) + 1
    rows = x.astype(np.float32)
    if np.isinf(rows).any():
        raise InputError(
            f"{where}: x holds infinity; columns of a table must be finite, or NaN where missing."
        )
    return rows, "tabular", 0


def _images_of(where: str, x: NDArray[Any]) -> NDArray[Any]:
    """Return images as NCHW, uint8 or float32 in [0,1]."""
    if x.ndim == 3:
        x = x[:, None]
    elif x.shape[3] in (1, 3):
        x = x.transpose(0, 3, 1, 2)
    elif x.shape[1] not in (1, 3):
        raise InputError(f"{where}: x has shape {x.shape}; images must have 1 or 3 channels, last or second.")
    low, high = (x.min(), x.max()) if x.size else (0, 0)
    if x.dtype.kind == "f":
        if not (low >= 0 and high <= 1):
            raise InputError(f"{where}: x spans [{low}, {high}]; floating-point images must stay in [0, 1].")
        return np.ascontiguousarray(x, dtype=np.float32)
    if low < 0 or high > 255:
        raise InputError(f"{where}: x spans [{low}, {high}]; images of whole numbers must stay in [0, 255].")
    return np.ascontiguousarray(x, dtype=np.uint8)


def _labels_of(where: str, y: Any) -> Labels:
    """Return labels as int64 [n]."""
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise InputError(f"{where}: y has shape {y.shape}; it must have one dimension, a label per row.")
    if y.dtype.kind not in "biuf" or (y.dtype.kind == "f" and not np.array_equal(y, np.floor(y))):
        raise InputError(f"{where}: y is of type {y.dtype}; labels must be whole numbers from 0.")
    if y.size and y.min() < 0:
        raise InputError(f"{where}: y holds {y.min()}; labels must be whole numbers from 0.")
    labels: Labels = y.astype(np.int64)
    return labels


def _in_domain(part: Dataset, name: str) -> Dataset:
    return replace(part, domain=np.full(len(part), name))


def _join_names(parts: Sequence[tuple[Names | None, int]]) -> Names | None:
    if all(names is None for names, _ in parts):
        return None
    return np.concatenate([np.full(n, "") if names is None else names for names, n in parts])


def _as_float(x: NDArray[Any]) -> NDArray[np.float32]:
    return x.astype(np.float32) / np.float32(255) if x.dtype == np.uint8 else x


def _shape_text(shape: tuple[int, ...]) -> str:
    """Return e.g. ``28x28 grey``."""
    return f"{shape[1]}x{shape[2]} {'grey' if shape[0] == 1 else 'colour'}"
