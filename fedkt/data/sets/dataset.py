"""Data sets in memory: raw rows, their labels and names.

What kind of data an array holds follows from its form alone:

=========== ==================================================================================
image       3 dimensions [n,H,W], or 4: [n,H,W,C] or [n,C,H,W] with C of 1 or 3; uint8 or [0,1]
tokens      text, or 2 dimensions of int32 or int64 (ids; 0 is padding)
tabular     2 dimensions of anything else (NaN is a missing value)
sparse      a SciPy sparse matrix
=========== ==================================================================================
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedkt.data.images import levels
from fedkt.data.sets.names import named
from fedkt.data.sets.tokens import VOCABULARY, tokenise
from fedkt.errors import InputError

Kind = Literal["image", "tabular", "tokens", "sparse"]
Labels = NDArray[np.int64]
Names = NDArray[np.str_]
_WHOSE = {"domain": "domain", "ids": "id"}


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
    found = {w: None if v is None else named(where, _WHOSE[w], v) for w, v in names.items()}
    return Dataset(rows, labels, found["domain"], kind, found["ids"], vocabulary)


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
    train, test = _levels(where, train, test)
    highest = max(int(part.y.max()) for part in (train, test) if part is not None and len(part))
    return Split(train, test, max(classes, highest + 1))


def _levels(where: str, train: Dataset, test: Dataset | None) -> tuple[Dataset, Dataset | None]:
    """Return the two halves of a source with images read as they were meant."""
    if train.kind != "image":
        return train, test
    read = levels.read(where, [train.x] if test is None else [train.x, test.x])
    return replace(train, x=read[0]), None if test is None else replace(test, x=read[1])


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
    return levels.bounded(where, x)


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


def _join_names(parts: Sequence[tuple[Names | None, int]]) -> Names | None:
    if all(names is None for names, _ in parts):
        return None
    return np.concatenate([np.full(n, "") if names is None else names for names, n in parts])


def _as_float(x: NDArray[Any]) -> NDArray[np.float32]:
    return x.astype(np.float32) / np.float32(255) if x.dtype == np.uint8 else x
