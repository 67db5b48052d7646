"""Data sets in memory: raw rows, their labels and names.

What kind of data an array holds follows from its form, where ``data.kind`` does not say it:

=========== ==================================================================================
image       3 dimensions [n,H,W], or 4: [n,H,W,C] or [n,C,H,W] with C of 1 or 3; uint8 or [0,1]
tokens      text, or 2 dimensions of int32 or int64 (ids; 0 is padding)
tabular     named columns, or 2 dimensions of anything else (NaN or masked is a missing value)
sparse      a SciPy sparse matrix
=========== ==================================================================================

Whole numbers may be both: they are a table where the scenario's models take tables only, and token ids of any
type where they take those only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedkt.data.columns.categories import Levels
from fedkt.data.columns.cells import array_of, float_type, is_missing, names_of, numbers_of, plural, texts_of
from fedkt.data.columns.choices import Choices
from fedkt.data.columns.labels import LabelNames
from fedkt.data.columns.named import LeftOut, chosen, columns_of, features, table_of
from fedkt.data.columns.tokens import BYTE_IDS, VOCABULARY, passages, tokenise
from fedkt.data.graph.vocabulary import Graph
from fedkt.data.images import levels
from fedkt.data.sets.common_rows import CommonRows
from fedkt.errors import InputError
from fedkt.tasks import Targets, named

Kind = Literal["image", "tabular", "tokens", "sparse"]
Names = NDArray[np.str_]
AS_READ = Choices()
"""Nothing is chosen: form decides."""


@dataclass(frozen=True)
class InputSpec:
    """What a model gets: ``shape`` of one row, (C,H,W), (d,) or (L,); ``vocabulary``: tokens only, else 0;
    ``common``: the transfer set, for features that are learned without labels, None where there is none;
    ``data_dir``: where files that a model names may lie too (:func:`fedkt.files.data_places`)."""

    kind: Kind
    shape: tuple[int, ...]
    vocabulary: int = 0
    common: CommonRows | None = field(default=None, compare=False, repr=False)
    data_dir: Path | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Raw rows and their labels.

    ``x``: images NCHW, uint8 or float32 in [0,1]; tabular [n,d], float32 where that holds the type that was
    read exactly, else float64; tokens int64 [n,L], 0 is padding; sparse float32 CSR [n,d]. ``y``: targets
    as the task has them (int64 [n] classes), -1 [n] where there are none. ``domain`` and ``ids``: a name per
    row, or None; ``ids`` are the natural ids by which rows can be dealt. ``vocabulary``: number of token ids,
    0 for other kinds. ``columns``: the names of a table's columns, None where it has none. ``label_names``:
    those of the labels in the order of their numbers, None where they are numbers. ``left_out``: what the
    source holds and was not read, and why. ``whole``: whether these are whole numbers that may be a table as
    well as token ids. ``levels``: what the numbers of columns of categories stand for, until these are spread
    out. ``graph``: what the ids of triples stand for, None where rows are none.
    """

    x: Any
    y: Targets
    domain: Names | None
    kind: Kind
    ids: Names | None = None
    vocabulary: int = 0
    columns: tuple[str, ...] | None = None
    label_names: LabelNames | None = None
    left_out: tuple[LeftOut, ...] = ()
    whole: bool = False
    levels: Levels = ()
    graph: Graph | None = None

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
    """Training rows, test rows where the source has them, and the number of classes (or of other outputs)."""

    train: Dataset
    test: Dataset | None
    classes: int
    left_out: tuple[LeftOut, ...] = ()
    """What the source holds beside its rows and was not read, and why."""

    @property
    def label_names(self) -> LabelNames | None:
        """The names of all classes in the order of their numbers, None where labels are numbers."""
        return self.train.label_names


class _Rows(NamedTuple):
    """Rows in their raw form, and what is known of them."""

    x: Any
    kind: Kind
    vocabulary: int = 0
    columns: tuple[str, ...] | None = None
    left_out: tuple[LeftOut, ...] = ()
    whole: bool = False
    levels: Levels = ()


def dataset_of(
    where: str,
    x: Any,
    y: Any,
    *,
    domain: Any = None,
    ids: Any = None,
    choices: Choices = AS_READ,
    label_names: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    left_out: Sequence[LeftOut] = (),
) -> Dataset:
    """Make a Dataset of raw rows, an array or columns by name, and their labels.

    ``where`` begins the sentences of the InputError if they are no data; ``label_names``: what the numbers in
    ``y`` stand for; ``columns``: the names of an array's columns; ``left_out``: what was not read.
    """
    problems: list[str] = []
    rows = _Rows(None, "tabular")
    labels: Targets = np.zeros(0, np.int64)
    names: LabelNames | None = None
    whose: dict[str, Names | None] = {"domain": None, "ids": None}
    try:
        rows = _rows_of(where, x, choices, columns)
    except InputError as error:
        problems.extend(error.problems)
    try:
        if choices.labelled:
            labels, names = named(choices.task, choices.ranges).read(where, y, choices, label_names)
        elif rows.x is not None:
            labels = named(choices.task).of_rows(rows.x)
    except InputError as error:
        problems.extend(error.problems)
    column = "domain" if choices.site is None else f"column {choices.site!r}, which data.site names,"
    for what, values, called in (("domain", domain, column), ("ids", ids, "ids")):
        try:
            if values is not None:
                whose[what] = names_of(f"{where}: {called}", values)
        except InputError as error:
            problems.extend(error.problems)
    if problems:
        raise InputError(*problems)
    for what, held in [("y", labels), *whose.items()]:
        if held is not None and len(held) != rows.x.shape[0]:
            problems.append(
                f"{where}: x has {rows.x.shape[0]} rows but {what} has {len(held)}; they must match."
            )
    if len(labels) == 0:
        problems.append(f"{where} has no rows; at least one is needed.")
    if problems:
        raise InputError(*problems)
    return Dataset(
        rows.x,
        labels,
        whose["domain"],
        rows.kind,
        whose["ids"],
        rows.vocabulary,
        rows.columns,
        names,
        (*rows.left_out, *left_out),
        rows.whole,
        rows.levels,
    )


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
        parts[0].columns,
        parts[0].label_names,
        tuple(dict.fromkeys(out for part in parts for out in part.left_out)),
        all(part.whole for part in parts),
        parts[0].levels,
        parts[0].graph,
    )


def _rows_of(where: str, x: Any, choices: Choices, columns: Sequence[str] | None) -> _Rows:
    """Return rows in their raw form."""
    if hasattr(x, "tocsr"):
        rows = x.tocsr().astype(np.float32)
        rows.sum_duplicates()
        if not np.isfinite(rows.data).all():
            raise InputError(f"{where}: x holds NaN or infinity; sparse rows must be finite.")
        check_unnamed(where, choices)
        return _Rows(rows, "sparse")
    by_name = columns_of(where, x)
    if by_name is not None:
        return _named_rows(where, by_name, choices)
    x = array_of(f"{where}: x is", x)
    masked = isinstance(x, np.ma.MaskedArray) and bool(np.ma.getmaskarray(x).any())
    if isinstance(x, np.ma.MaskedArray) and not masked:
        x = x.data
    if x.dtype.kind in "UST" or (x.dtype == object and x.ndim == 1):
        return _texts(where, x, choices)
    if x.dtype == object and x.ndim == 2:
        x = _unboxed(where, x)
    if x.dtype.kind not in "biuf":
        raise InputError(f"{where}: x is of type {x.dtype}; it must be numbers, text or a sparse matrix.")
    if choices.kind == "text" or (choices.kind == "image" and x.ndim not in (3, 4)):
        raise InputError(f"{where}: data.kind is {choices.kind}, but x is of {x.dtype} with shape {x.shape}.")
    if x.ndim in (3, 4) and choices.kind in (None, "image"):
        check_unnamed(where, choices)
        if masked:
            raise InputError(f"{where}: x is masked in places; images must be whole.")
        return _Rows(_images_of(where, x, choices.white), "image")
    if x.ndim != 2:
        raise InputError(
            f"{where}: x has shape {x.shape}; rows must be images (3 or 4 dimensions), "
            "vectors (2) or text (1)."
        )
    if not x.shape[1]:
        raise InputError(f"{where}: x has no columns; at least one is needed.")
    if columns is not None:
        if len(columns) != x.shape[1]:
            raise InputError(
                f"{where}: x has {x.shape[1]} columns but {len(columns)} names of columns; they must match."
            )
        if choices.kind != "tokens":
            kept, out = features(where, columns, choices)
            if choices.categories:
                by_name = {name: x[:, number] for number, name in enumerate(columns)}
                return _named_rows(where, by_name, choices)
            place = {name: number for number, name in enumerate(columns)}
            taken = x if kept == list(columns) else x[:, [place[name] for name in kept]]
            return _Rows(
                _table(where, taken, tuple(kept)), "tabular", columns=tuple(kept), left_out=tuple(out)
            )
    check_unnamed(where, choices)
    kind, whole = _of_numbers(where, x, masked, choices)
    if kind == "tokens":
        return _Rows(x.astype(np.int64), "tokens", int(x.max(initial=0)) + 1, whole=whole)
    return _Rows(_table(where, x, None), "tabular", whole=whole)


def _table(where: str, x: NDArray[Any], names: tuple[str, ...] | None) -> NDArray[Any]:
    """Return numbers [n,d], masked or not, as floating-point ones with NaN where one is missing."""
    rows = x.astype(float_type(x.dtype), copy=False)
    rows = rows.filled(np.nan) if isinstance(rows, np.ma.MaskedArray) else rows
    _check_finite(where, rows, names)
    return rows


def _of_numbers(where: str, x: NDArray[Any], masked: bool, choices: Choices) -> tuple[Kind, bool]:
    """Return what numbers of two dimensions are, and whether they may be the other as well."""
    wanted = choices.kind or (choices.whole if x.dtype.kind in "iu" and not masked else None)
    if wanted == "tokens" and (masked or x.dtype.kind not in "iu" or (x.size and x.min() < 0)):
        raise InputError(
            f"{where}: x is of type {x.dtype}{' and masked in places' if masked else ''}, but it is to be "
            "token ids; these must be whole numbers (int32 or int64) from 0, with 0 for padding."
        )
    if wanted is not None:
        return ("tokens" if wanted == "tokens" else "tabular"), False
    if x.dtype.newbyteorder("=") not in (np.int32, np.int64) or masked:
        return "tabular", x.dtype.kind in "iu" and not masked
    if x.size and x.min() < 0:
        raise InputError(
            f"{where}: x is of type {x.dtype}, so it is read as token ids, and holds {x.min()}; "
            "ids must be at least 0, and columns of a table must be floating-point numbers, or data.kind "
            "be table."
        )
    return "tokens", True


def _named_rows(where: str, columns: dict[str, Any], choices: Choices) -> _Rows:
    """Return rows of columns that have names: a table, or the only text."""
    kept, _ = chosen(where, list(columns), choices)
    listed_ = dict(choices.categories)
    numbers = [name for name in kept if name in listed_ or _is_numbers(columns[name])]
    if choices.kind == "text" or (choices.kind is None and len(kept) == 1 and not numbers):
        if len(kept) != 1:
            raise InputError(
                f"{where} has the columns {', '.join(kept)}; data.columns must name the one "
                "that holds the text."
            )
        out = tuple((name, "not the text") for name in columns if name != kept[0])
        return _texts(where, np.asarray(columns[kept[0]]), choices)._replace(left_out=out)
    x, names, out, levels_ = table_of(where, columns, choices)
    if choices.kind == "tokens":
        if np.isnan(x).any() or (x != np.floor(x)).any() or x.min(initial=0) < 0:
            raise InputError(f"{where}: data.kind is tokens, but the columns hold no whole numbers from 0.")
        return _Rows(x.astype(np.int64), "tokens", int(x.max(initial=0)) + 1, left_out=out)
    _check_finite(where, x, names)
    return _Rows(x, "tabular", columns=names, left_out=out, levels=levels_)


def _is_numbers(column: Any) -> bool:
    values = column[:1000]
    made = numbers_of(values)
    return made is not None


def _texts(where: str, x: NDArray[Any], choices: Choices) -> _Rows:
    if x.ndim != 1:
        raise InputError(f"{where}: x is text of {x.ndim} dimensions; it must have one, a text per row.")
    if choices.kind not in (None, "text"):
        raise InputError(f"{where}: data.kind is {choices.kind}, but x is text.")
    if choices.passage:
        return _Rows(passages(where, x, choices.passage), "tokens", BYTE_IDS)
    return _Rows(tokenise(texts_of(f"{where}: x", x).tolist()), "tokens", VOCABULARY)


def _unboxed(where: str, x: NDArray[Any]) -> NDArray[Any]:
    """Return numbers that were kept as Python objects [n,d]."""
    columns = [numbers_of(x[:, i]) for i in range(x.shape[1])]
    odd = next((i for i, values in enumerate(columns) if values is None), None)
    if odd is not None:
        missing = is_missing(x[:, odd])
        value = next(v for v in x[~missing, odd] if not isinstance(v, int | float | np.number))
        raise InputError(
            f"{where}: column {odd} of x holds {str(value)[:40]!r}; columns of a table must be numbers, NaN "
            "where a value is missing."
        )
    return np.stack([values for values in columns if values is not None], axis=1)


def check_unnamed(where: str, choices: Choices) -> None:
    given = [name for name in choices.by_name if name != "data.label"]
    if given:
        raise InputError(
            f"{where}: {' and '.join(given)} speaks of columns by name, but these rows have no names."
        )


def _check_finite(where: str, x: NDArray[Any], names: tuple[str, ...] | None) -> None:
    """Refuse infinity, and what becomes infinite in float32."""
    largest = np.finfo(np.float32).max
    if not x.size:
        return
    if x.dtype == np.float32:
        beyond = np.isinf(x)
    else:  # without a copy of all, which a large table has no room for
        low, high = np.fmin.reduce(x, axis=None), np.fmax.reduce(x, axis=None)
        if not (low < -largest or high > largest):
            return
        beyond = np.abs(x) > largest
    if not beyond.any():
        return
    column = int(beyond.any(axis=0).argmax())
    which = f"column {names[column]!r}" if names else f"column {column}"
    raise InputError(
        f"{where}: x holds infinity, or a number beyond float32's, in {which} "
        f"({plural(int(beyond.sum()), 'value')} in all); columns of a table must be finite, or "
        "NaN where missing."
    )


def _images_of(where: str, x: NDArray[Any], white: tuple[float, float] | None) -> NDArray[Any]:
    """Return images as NCHW, uint8 or float32 in [0,1]."""
    if x.ndim == 3:
        x = x[:, None]
    elif x.shape[3] in (1, 3):
        x = x.transpose(0, 3, 1, 2)
    elif x.shape[1] not in (1, 3):
        raise InputError(f"{where}: x has shape {x.shape}; images must have 1 or 3 channels, last or second.")
    return levels.bounded(where, x) if white is None else levels.stated(where, x, white)


def _join_names(parts: Sequence[tuple[Names | None, int]]) -> Names | None:
    if all(names is None for names, _ in parts):
        return None
    return np.concatenate([np.full(n, "") if names is None else names for names, n in parts])


def _as_float(x: NDArray[Any]) -> NDArray[np.float32]:
    return x.astype(np.float32) / np.float32(255) if x.dtype == np.uint8 else x
