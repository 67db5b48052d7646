"""The transfer set of each round: rows that stay the same, or rows that are made anew."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from fedkt.data.columns.choices import Choices
from fedkt.data.content.transfer_set import transfer_hash
from fedkt.data.made.public import Range
from fedkt.data.made.recipe import Recipe, public_of, recipe_of
from fedkt.data.sets.dataset import Dataset, InputSpec, concat
from fedkt.data.sets.preprocess import fit_raw
from fedkt.data.sets.reading import load_dataset
from fedkt.errors import InputError
from fedkt.rng import numpy_stream
from fedkt.scenario.about_data import MADE

if TYPE_CHECKING:
    from fedkt.scenario import Data, Scenario
    from fedkt.scenario.about_data import Transfer

T = TypeVar("T")
KEPT = 3
"""Rounds whose rows are kept: that at work, and that of the teacher that is digested in it."""


@dataclass(frozen=True, eq=False)
class Stock:
    """``parts``: where the rows come from, in order; ``fresh``: whether made ones are others in each round.

    ``like``: a data set of the form of the rows.
    """

    parts: tuple[Dataset | Recipe, ...]
    fresh: bool
    like: Dataset
    _kept: dict[Any, Any] = field(default_factory=dict, repr=False)

    @property
    def first(self) -> int:
        """The round whose rows stand for all."""
        return 1 if self.fresh else 0

    def rows(self, round_: int) -> Dataset:
        """Return the unlabelled rows of a round."""
        at = round_ if self.fresh else self.first
        return self._keep("rows", at, lambda: concat([self._part(part, at) for part in self.parts]))

    def hash(self, round_: int) -> str:
        """Return the transfer hash of a round's rows."""
        at = round_ if self.fresh else self.first
        return self._keep("hash", at, lambda: transfer_hash(self.rows(at).x))

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """The recipes of what is made."""
        return tuple(part for part in self.parts if isinstance(part, Recipe))

    @property
    def recipe(self) -> str:
        """The SHA-256, in hexadecimal, of all recipes in order."""
        return hashlib.sha256("\n".join(recipe.hash for recipe in self.recipes).encode()).hexdigest()

    def _part(self, part: Dataset | Recipe, round_: int) -> Dataset:
        if isinstance(part, Dataset):
            return part
        x = part.rows(round_)
        return replace(
            self.like,
            x=x,
            y=np.full(part.size, -1, np.int64),
            domain=None,
            ids=None,
            left_out=(),
            whole=False,
        )

    def _keep(self, what: str, round_: int, make: Callable[[], T]) -> T:
        """Return what was made for a round, which need not be made again while few rounds are talked
        about."""
        if (what, round_) not in self._kept:
            self._kept[what, round_] = make()
            while len(self._kept) > 2 * KEPT:
                del self._kept[next(iter(self._kept))]  # what was made first
        kept: T = self._kept[what, round_]
        return kept

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}


def made_of(data: "Data") -> "Transfer | None":
    """Return what is said of transfer rows that are made, or have to audition; None where they are
    neither."""
    said = data.transfer
    return said if said is not None and (said.audition or said.made) else None


def stock_of(
    data: "Data", like: Dataset, spec: InputSpec, seed: int, data_dir: Path | None, choices: Choices
) -> Stock:
    """Return what makes the transfer rows of a scenario, of the form of the rows ``like`` and for models that
    get ``spec``. Raises InputError with what does not fit them."""
    said = data.transfer
    assert said is not None
    public = public_of(data, spec, like.columns)
    if like.graph is not None:
        ids = [Range(first, last, whole=True) for first, last in like.graph.ids]
        public = replace(public, ranges=tuple(ids))
    parts: list[Dataset | Recipe] = []
    problems: list[str] = []
    for source in said.sources:
        try:
            if source.startswith(MADE):
                parts.append(recipe_of(source, data, public, said.size, seed, data_dir))
            else:
                held = load_dataset(source, data_dir, data.image, choices=choices.unlabelled).train
                parts.append(_candidate(source, held, like, spec, said.size, seed))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(*problems)
    return Stock(tuple(parts), said.fresh, like)


def _candidate(source: str, held: Dataset, like: Dataset, spec: InputSpec, size: int, seed: int) -> Dataset:
    """Return ``size`` rows of a data set that has to audition, as models get them. Raises InputError."""
    where = f"data.transfer.audition: '{source}'"
    if held.kind != like.kind:
        raise InputError(f"{where} is {held.kind} but data.dataset is {like.kind}; they must be of one kind.")
    if len(held) < size:
        raise InputError(
            f"{where} has {len(held)} rows, but data.transfer.size is {size}; it must have as many."
        )
    drawn = held.take(np.sort(numpy_stream(seed, "audition", source).permutation(len(held))[:size]))
    x = drawn.x
    if held.shape != spec.shape:
        if held.kind != "image":
            raise InputError(
                f"a row of {where} has shape {held.shape} but one here {spec.shape}; they must match."
            )
        x = fit_raw(x, spec.shape[1], spec.shape[0])
    return replace(drawn, x=x, y=np.full(size, -1, np.int64), domain=None, ids=None, left_out=())


def stock_for(
    scenario: "Scenario", spec: InputSpec, columns: tuple[str, ...] | None, data_dir: Path | None
) -> Stock | None:
    """Return what makes the transfer rows of a scenario where nobody has any rows; None where they are not
    made."""
    if made_of(scenario.data) is None:
        return None
    none = np.zeros((0, *spec.shape)), np.zeros(0, np.int64)
    like = Dataset(*none, None, spec.kind, vocabulary=spec.vocabulary, columns=columns)
    return stock_of(scenario.data, like, spec, scenario.seed, data_dir, Choices.of(scenario.data))
