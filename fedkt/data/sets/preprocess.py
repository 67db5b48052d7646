"""From raw rows to what a model gets. None of it enters the hash of a transfer set."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedkt.data.sets.dataset import Dataset, InputSpec

if TYPE_CHECKING:
    import torch

_LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey: ITU-R BT.601."""


@dataclass(frozen=True)
class Preprocess:
    """What is done to raw rows; ``missing`` and ``standardise`` use the statistics of one client's rows.

    ``normalise``: constants (mean, std) of images, each with one number per channel or one for all.
    """

    input: InputSpec
    missing: Literal["mean", "median", "zero"] | None = None
    standardise: bool = False
    normalise: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    @property
    def by_client(self) -> bool:
        """Whether the same raw rows look different to different clients."""
        return self.missing in ("mean", "median") or self.standardise

    def tensor(self, x: Any, statistics: "Statistics | None" = None) -> "torch.Tensor":
        """Return raw rows of a Dataset as a tensor [n, *input.shape]: int64 for tokens, else float32.

        ``statistics`` are needed where :attr:`by_client` says so, and where values are missing.
        """
        import torch

        if self.input.kind == "image":
            channels, size, _ = self.input.shape
            images = pixels(x)
            images = images if images.shape[1:] == self.input.shape else fit(images, size, channels)
            if self.normalise is None:
                return images
            mean, std = (torch.tensor(constants).view(-1, 1, 1) for constants in self.normalise)
            return (images - mean) / std
        if self.input.kind == "sparse":
            return torch.from_numpy(x.toarray().astype(np.float32, copy=False))
        if self.input.kind == "tabular":
            x = statistics.apply(x) if statistics is not None else x.astype(np.float32, copy=False)
        return torch.from_numpy(np.ascontiguousarray(x))

    def statistics(self, x: Any) -> "Statistics | None":
        """Return the statistics of a client's raw training rows [n,d], or None where none are needed."""
        if self.input.kind != "tabular" or not (self.missing or self.standardise):
            return None
        return Statistics.of(x, self.missing, self.standardise)


MOST_DEVIATIONS = 20.0
"""How far a scaled value may lie from a client's own mean: what is beyond has the value at that distance."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """Per column: the value that replaces NaN, the shift and the scale; float64 [d] each.

    A scale is infinite where the column does not vary in the client's rows: it tells the client's model
    nothing, so it is 0 for every row, also for those of others, where it varies. ``scaled``: whether columns
    are scaled; if not, a scale is infinite where a column has no value at all, and 1 elsewhere.
    """

    fill: NDArray[np.float64]
    shift: NDArray[np.float64]
    scale: NDArray[np.float64]
    scaled: bool = True

    def tensors(self) -> "dict[str, torch.Tensor]":
        """Return them by name, each a tensor of its own."""
        import torch

        return {field.name: torch.tensor(getattr(self, field.name)) for field in fields(self)}

    def plain(self) -> dict[str, Any]:
        """Return them by name as JSON takes them, which knows no infinity: such a scale is None."""
        made = {name: getattr(self, name).tolist() for name in ("fill", "shift", "scale")}
        return {**made, "scale": [None if np.isinf(n) else n for n in made["scale"]], "scaled": self.scaled}

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "Statistics":
        """Return what :meth:`tensors` or :meth:`plain` gave."""
        numbers = {name: np.asarray(values[name], np.float64) for name in ("fill", "shift", "scale")}
        numbers["scale"] = np.where(np.isnan(numbers["scale"]), np.inf, numbers["scale"])
        return cls(**numbers, scaled=bool(values["scaled"]))

    @staticmethod
    def of(x: NDArray[np.floating[Any]], missing: str | None, standardise: bool) -> "Statistics":
        """Compute them from training rows [n,d]; a column without a value is filled with 0."""
        blank = np.isnan(x)
        there = np.maximum((~blank).sum(axis=0), 1)
        low, high = (np.nan_to_num(of.reduce(x, axis=0)).astype(np.float64) for of in (np.fmin, np.fmax))
        fill = np.zeros(x.shape[1])
        if missing == "mean":
            # Within the column's range, so that a constant one stays constant.
            fill = np.clip(np.where(blank, 0, x).sum(axis=0, dtype=np.float64) / there, low, high)
        elif missing == "median":
            columns = (x[~blank[:, j], j] for j in range(x.shape[1]))
            fill = np.array([np.median(c.astype(np.float64)) if len(c) else 0.0 for c in columns])
        if not standardise:
            never = np.where(blank.all(axis=0), np.inf, 1.0)
            return Statistics(fill, np.zeros(x.shape[1]), never, scaled=False)
        filled = np.where(blank, fill, x)
        shift, scale = filled.mean(axis=0), filled.std(axis=0)
        constant = filled.min(axis=0) == filled.max(axis=0)
        return Statistics(fill, shift, np.where(constant, np.inf, scale))

    @property
    def silent(self) -> NDArray[np.bool_]:
        """Which columns [d] do not vary in these rows, so that they are 0 for this client."""
        return np.isinf(self.scale)

    def apply(self, x: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return rows [n,d] with nothing missing, shifted and scaled, at most twenty deviations off."""
        filled = np.where(np.isnan(x), self.fill, x)
        if self.scaled:
            filled = np.clip((filled - self.shift) / self.scale, -MOST_DEVIATIONS, MOST_DEVIATIONS)
        elif self.silent.any():
            filled[:, self.silent] = 0
        return filled.astype(np.float32)


def pixels(x: NDArray[Any]) -> "torch.Tensor":
    """Return raw images as float32 in [0,1]."""
    import torch

    # Ray shares arrays read-only, and torch may not be given those.
    images = torch.from_numpy(x if x.flags.writeable else x.copy())
    return images.float().div_(255) if images.dtype == torch.uint8 else images


def fit(images: "torch.Tensor", size: int, channels: int) -> "torch.Tensor":
    """Bring images [n,C,H,W] in [0,1] to [n,channels,size,size]; unchanged where they fit already.

    Resizing is bilinear (antialiased where it shrinks). Grey becomes three equal channels; colour becomes
    grey by the luma weights of ITU-R BT.601.
    """
    import torch

    if images.shape[1] == 3 and channels == 1:
        images = torch.einsum("nchw,c->nhw", images, torch.tensor(_LUMA))[:, None]
    if images.shape[2:] != (size, size):
        images = torch.nn.functional.interpolate(
            images, (size, size), mode="bilinear", align_corners=False, antialias=True
        ).clamp_(0, 1)
    if images.shape[1] == 1 and channels == 3:
        images = images.repeat(1, 3, 1, 1)
    return images.contiguous()


def fit_raw(x: NDArray[Any], size: int, channels: int) -> NDArray[Any]:
    """Bring raw images to one shape and keep their type (uint8 is rounded)."""
    fitted = fit(pixels(x), size, channels)
    if x.dtype == np.uint8:
        fitted = fitted.mul(255).round().byte()
    return np.asarray(fitted)


def input_of(pool: Dataset, image: Any, others: list[Dataset], data_dir: Path | None) -> InputSpec:
    """Return what models get: the shape of ``image`` where it is set, a vocabulary that covers all sets."""
    shape = pool.shape
    if pool.kind == "image" and image is not None:
        shape = (image.channels, image.size, image.size)
    vocabulary = max(part.vocabulary for part in [pool, *others])
    return InputSpec(pool.kind, shape, vocabulary, data_dir=data_dir)
