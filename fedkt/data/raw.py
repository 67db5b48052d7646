"""Rows as somebody has them at hand, made ready for an exported model as the run made its own ready."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedkt.data.columns.categories import coded
from fedkt.data.columns.cells import array_of, numbers_of, texts_of
from fedkt.data.columns.choices import Choices
from fedkt.data.columns.labels import listed
from fedkt.data.columns.named import columns_of, table_of
from fedkt.data.columns.tokens import passages, tokenise
from fedkt.data.graph.vocabulary import Graph
from fedkt.data.sets.dataset import InputSpec, dataset_of
from fedkt.data.sets.preprocess import Preprocess, Statistics, fit_raw
from fedkt.errors import InputError

if TYPE_CHECKING:
    import torch

    from fedkt.data.federation import Federation
    from fedkt.scenario import Data

WHERE = "these rows"


@dataclass(frozen=True, eq=False)
class Preparation:
    """What a model's rows go through: of one client, where its statistics are part of it.

    ``pixels``: what the run's images were held as, ``uint8`` or ``float32`` in [0,1]; ``resized``: whether
    images of any size are brought to the model's, as ``data.image`` asked for; ``rounded``: whether that was
    done when domains were joined, to whole grey levels.
    """

    preprocess: Preprocess
    statistics: Statistics | None = None
    pixels: str | None = None
    resized: bool = False
    rounded: bool = False
    columns: tuple[str, ...] | None = None
    """The names of a table's columns, in the model's order; None where they have none."""
    categories: Mapping[str, Sequence[str]] | None = None
    """The values of columns that hold one of a few, each of which has a column of the model."""
    white: tuple[float, float] | None = None
    """What black and white are in raw images, where the scenario says it."""
    graph: Graph | None = None
    """What the numbers of triples stand for, where rows are some."""
    passages: bool = False
    """Whether texts are taken byte by byte, as models of text read them, and not by their words."""

    def __call__(self, rows: Any) -> "torch.Tensor":
        """Return raw rows as a model takes them: float32 [n, *input.shape], int64 for tokens.

        ``rows``: an array, a tensor, a SciPy sparse matrix or a list, of images as a data set may hold them
        (uint8 or [0,1], channels first or last), rows of a table (NaN is a missing value), token ids (short
        ones are padded) or texts. Columns that have names (a data frame, a mapping, a list of mappings) are
        taken by them, whatever their order and whatever stands beside them. Raises InputError where rows do
        not fit the model.
        """
        wanted = self.preprocess.input
        by_name = columns_of(WHERE, _records(rows))
        raw = getattr(self, f"_{wanted.kind}")(_array(rows) if by_name is None else self._named(by_name))
        shape = tuple(int(n) for n in raw.shape[1:])
        if shape != wanted.shape and not self.resized:
            raise InputError(
                f"{WHERE} have shape {list(shape)} each, but the model takes {list(wanted.shape)}."
            )
        return self.preprocess.tensor(raw, self.statistics)

    def _named(self, columns: Mapping[str, Any]) -> Any:
        """Return the rows that columns by name hold: those of the model, the only text, or all in order."""
        if self.preprocess.input.kind == "tokens" and len(columns) == 1:
            return np.asarray(next(iter(columns.values())))
        if self.graph is not None:
            return np.stack([np.asarray(column) for column in columns.values()], 1)
        if self.columns is None:
            return table_of(WHERE, columns, Choices(columns=tuple(columns)))[0]
        columns = self._without_silent(self._spread(columns))
        # A column of vectors became NAME[0] and so on.
        asked = dict.fromkeys(
            name if name in columns else name.rpartition("[")[0] or name for name in self.columns
        )
        lacking = [name for name in asked if name not in columns]
        if lacking:
            raise InputError(
                f"{WHERE} lack {listed(lacking)}; the model takes the columns {listed(self.columns)}."
            )
        odd = [name for name in asked if numbers_of(columns[name]) is None]
        if odd:
            raise InputError(f"{WHERE} hold no numbers in {listed(odd)}; write them as numbers.")
        return table_of(WHERE, columns, Choices(columns=tuple(asked)))[0]

    def _without_silent(self, columns: dict[str, Any]) -> dict[str, Any]:
        """Return columns with those blank that are not there and say nothing to this client's model, as those
        of other sites' tables do."""
        if self.statistics is None or not columns:
            return columns
        rows = len(next(iter(columns.values())))
        silent = np.array(self.columns)[self.statistics.silent].tolist()
        return {**{name: np.full(rows, np.nan) for name in silent}, **columns}

    def _spread(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """Return columns with those of categories as a column of 0 and 1 for each value."""
        made = dict(columns)
        for name, values in (self.categories or {}).items():
            if name in made:
                held = coded(WHERE, name, made.pop(name))
                place = {value: number for number, value in enumerate(held.names)}
                made |= {f"{name}={value}": held.codes == place.get(value, len(place)) for value in values}
        return made

    def _image(self, rows: Any) -> NDArray[Any]:
        if rows.ndim not in (3, 4) or rows.dtype.kind not in "biuf":
            raise InputError(
                f"{WHERE} are of type {rows.dtype} and shape {list(rows.shape)}; images must be numbers of 3 "
                "or 4 dimensions, the first over images."
            )
        said = Choices(white=self.white)
        images: NDArray[Any] = dataset_of(WHERE, rows, np.zeros(len(rows), np.int64), choices=said).x
        if self.pixels == "float32" and images.dtype == np.uint8 and images.max() <= 1:
            images = images.astype(np.float32)  # black and white, as it was in the run
        channels, size, _ = self.preprocess.input.shape
        return fit_raw(images, size, channels) if self.rounded else images

    def _tabular(self, rows: Any) -> NDArray[Any]:
        rows = rows.toarray() if hasattr(rows, "tocsr") else rows
        if rows.ndim != 2 or rows.dtype.kind not in "biufO":
            raise InputError(
                f"{WHERE} are of type {rows.dtype} and shape {list(rows.shape)}; rows of a table must be "
                "numbers of 2 dimensions."
            )
        try:
            table = rows.astype(np.float64)  # as the run held it until it was scaled
        except (TypeError, ValueError) as error:
            raise InputError(f"{WHERE} hold what is no number ({error}).") from error
        if np.isinf(table).any():
            raise InputError(f"{WHERE} hold infinity; columns must be finite, or NaN where missing.")
        if self.statistics is None and np.isnan(table).any():
            raise InputError(f"{WHERE} miss values (NaN), but the model was trained without any missing.")
        return np.asarray(table)

    def _tokens(self, rows: Any) -> NDArray[np.int64]:
        if rows.ndim == 1 and rows.dtype.kind in "USTO":
            texts = texts_of(WHERE, rows)
            whole = self.preprocess.input.shape[0]
            ids = passages(WHERE, texts, whole) if self.passages else tokenise(texts.tolist())
        elif self.graph is not None and rows.dtype.kind in "USTO" and rows.ndim == 2 and rows.shape[1] == 3:
            ids = self.graph.triples(WHERE, rows.tolist())
        elif rows.ndim == 2 and rows.dtype.kind in "iu":
            short = max(self.preprocess.input.shape[0] - rows.shape[1], 0)
            ids = np.pad(rows.astype(np.int64), ((0, 0), (0, short)))
        else:
            right = "texts (1 dimension), or token ids (2)" if self.graph is None else "names or ids [n, 3]"
            raise InputError(
                f"{WHERE} are of type {rows.dtype} and shape {list(rows.shape)}; they must be {right}."
            )
        vocabulary = self.preprocess.input.vocabulary
        if ids.size and not (ids.min() >= 0 and ids.max() < vocabulary):
            raise InputError(
                f"{WHERE} hold token ids from {ids.min()} to {ids.max()}; the model knows 0 to "
                f"{vocabulary - 1}."
            )
        return ids

    def _sparse(self, rows: Any) -> Any:
        from scipy import sparse

        if not hasattr(rows, "tocsr") and (rows.ndim != 2 or rows.dtype.kind not in "biuf"):
            raise InputError(
                f"{WHERE} are of type {rows.dtype} and shape {list(rows.shape)}; they must be a sparse "
                "matrix, or numbers of 2 dimensions."
            )
        return sparse.csr_matrix(rows)


def described(federation: "Federation", data: "Data") -> dict[str, Any]:
    """Return what :func:`prepared` reads again, as JSON takes it, and what the classes are called.

    Without the statistics of a client's columns, which are the client's.
    """
    preprocess, pool = federation.preprocess, federation.pool
    spec, constants = preprocess.input, preprocess.normalise
    image, graph = pool.kind == "image", pool.graph
    return {
        "input": {"kind": spec.kind, "shape": list(spec.shape), "vocabulary": spec.vocabulary},
        "prepare": {
            "missing": preprocess.missing,
            "standardise": preprocess.standardise,
            "normalise": None if constants is None else [list(part) for part in constants],
            "pixels": str(pool.x.dtype) if image else None,
            "resized": image and data.image is not None,
            "rounded": image and data.image is not None and pool.shape == spec.shape,
            "white": list(data.white) if image and data.white is not None else None,
        },
        "classes": federation.classes,
        "task": data.task,
        "targets": data.targets,
        "labels": _label_names(federation, data.target),
        "columns": federation.pool.columns,
        "categories": {name: list(values) for name, values in federation.categories.items()},
        "graph": None if graph is None else {"entities": graph.entities, "relations": graph.relations},
        "notes": federation.notes,
    }


def prepared(about: Mapping[str, Any], statistics: Statistics | None) -> Preparation:
    """Return the preparation of a description and a client's statistics. Raises KeyError, ValueError."""
    how, constants = about["prepare"], about["prepare"]["normalise"]
    normalise = None if constants is None else (tuple(constants[0]), tuple(constants[1]))
    preprocess = Preprocess(spec_of(about), how["missing"], how["standardise"], normalise)
    if statistics is None and (how["missing"] or how["standardise"]):
        raise ValueError("it lacks the statistics of its columns")
    columns = None if about["columns"] is None else tuple(about["columns"])
    white = None if how.get("white") is None else (float(how["white"][0]), float(how["white"][1]))
    return Preparation(
        preprocess,
        statistics,
        how["pixels"],
        how["resized"],
        how["rounded"],
        columns,
        about.get("categories"),
        white,
        _graph(about.get("graph")),
        about.get("task") == "language",
    )


def _graph(names: Mapping[str, Sequence[str]] | None) -> Graph | None:
    return None if names is None else Graph(tuple(names["entities"]), tuple(names["relations"]))


def spec_of(about: Mapping[str, Any]) -> InputSpec:
    """Return what a description says that a model gets."""
    spec = about["input"]
    return InputSpec(spec["kind"], tuple(spec["shape"]), spec["vocabulary"])


def _label_names(federation: "Federation", target: str | None) -> list[str] | None:
    """Return what the classes are called, in order; None where they are numbers from 0."""
    if target is not None:
        return [target.replace(">", "<="), target]
    names = federation.label_names
    return None if names is None else [str(name) for name in names]


def _array(rows: Any) -> Any:
    """Return rows as an array, or as the sparse matrix that they are."""
    if hasattr(rows, "tocsr"):
        return rows
    if isinstance(rows, np.ma.MaskedArray):
        return np.ma.filled(rows.astype(np.float64), np.nan)
    return array_of(f"{WHERE} are", rows)


def _records(rows: Any) -> Any:
    """Return a list of mappings as columns by name; a value that one lacks is missing."""
    if not isinstance(rows, list | tuple) or not rows or not all(isinstance(row, Mapping) for row in rows):
        return rows
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: np.array([row.get(name) for row in rows], object) for name in names}
