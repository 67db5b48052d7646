"""Rows as somebody has them at hand, made ready for an exported model as the run made its own ready."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedkt.data.sets.dataset import InputSpec, dataset_of
from fedkt.data.sets.preprocess import Preprocess, Statistics, fit_raw
from fedkt.data.sets.tokens import tokenise
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

    def __call__(self, rows: Any) -> "torch.Tensor":
        """Return raw rows as a model takes them: float32 [n, *input.shape], int64 for tokens.

        ``rows``: an array, a tensor, a SciPy sparse matrix or a list, of images as a data set may hold them
        (uint8 or [0,1], channels first or last), rows of a table (NaN is a missing value), token ids or
        texts. Raises InputError where they do not fit the model.
        """
        wanted = self.preprocess.input
        raw = getattr(self, f"_{wanted.kind}")(_array(rows))
        shape = tuple(int(n) for n in raw.shape[1:])
        if shape != wanted.shape and not self.resized:
            raise InputError(
                f"{WHERE} have shape {list(shape)} each, but the model takes {list(wanted.shape)}."
            )
        return self.preprocess.tensor(raw, self.statistics)

    def _image(self, rows: Any) -> NDArray[Any]:
        if rows.ndim not in (3, 4) or rows.dtype.kind not in "biuf":
            raise InputError(
                f"{WHERE} are of type {rows.dtype} and shape {list(rows.shape)}; images must be numbers of 3 "
                "or 4 dimensions, the first over images."
            )
        images: NDArray[Any] = dataset_of(WHERE, rows, np.zeros(len(rows), np.int64)).x
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
            texts = np.char.decode(rows, "utf-8") if rows.dtype.kind == "S" else rows
            ids = tokenise([str(text) for text in texts])
        elif rows.ndim == 2 and rows.dtype.kind in "iu":
            ids = rows.astype(np.int64)
        else:
            raise InputError(
                f"{WHERE} are of type {rows.dtype} and shape {list(rows.shape)}; they must be texts (1 "
                "dimension), or token ids (2)."
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
    image = pool.kind == "image"
    return {
        "input": {"kind": spec.kind, "shape": list(spec.shape), "vocabulary": spec.vocabulary},
        "prepare": {
            "missing": preprocess.missing,
            "standardise": preprocess.standardise,
            "normalise": None if constants is None else [list(part) for part in constants],
            "pixels": str(pool.x.dtype) if image else None,
            "resized": image and data.image is not None,
            "rounded": image and data.image is not None and pool.shape == spec.shape,
        },
        "classes": federation.classes,
        "labels": _label_names(federation, data.target),
        "columns": federation.pool.columns,
        "notes": federation.notes,
    }


def prepared(about: Mapping[str, Any], statistics: Statistics | None) -> Preparation:
    """Return the preparation of a description and a client's statistics. Raises KeyError, ValueError."""
    how, constants = about["prepare"], about["prepare"]["normalise"]
    normalise = None if constants is None else (tuple(constants[0]), tuple(constants[1]))
    preprocess = Preprocess(spec_of(about), how["missing"], how["standardise"], normalise)
    if statistics is None and (how["missing"] or how["standardise"]):
        raise ValueError("it lacks the statistics of its columns")
    return Preparation(preprocess, statistics, how["pixels"], how["resized"], how["rounded"])


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
    if hasattr(rows, "detach"):
        rows = rows.detach().cpu().numpy()
    if isinstance(rows, np.ma.MaskedArray):
        rows = np.ma.filled(rows.astype(np.float64), np.nan)
    return np.asarray(rows)
