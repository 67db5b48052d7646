"""The table of utilities: what each looks at. Their formulas are in ``utilities``, a file each."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedkt.strategy.choosing.utilities.changing import changing
from fedkt.strategy.choosing.utilities.contested import contested
from fedkt.strategy.choosing.utilities.dense import dense
from fedkt.strategy.choosing.utilities.disagreement import disagreement
from fedkt.strategy.choosing.utilities.doubt import entropy
from fedkt.strategy.choosing.utilities.gap import gap
from fedkt.strategy.choosing.utilities.hard import hard
from fedkt.strategy.choosing.utilities.margin import margin
from fedkt.strategy.choosing.utilities.rare import rare
from fedkt.strategy.choosing.utilities.said import Said
from fedkt.strategy.choosing.utilities.telling import telling


@dataclass(frozen=True)
class Utility:
    """``of``: what was said of some rows to their values [rows]; ``answers``, ``teachers``, ``before``: which
    parts of it that looks at; ``rows``: the rows themselves [rows, d] to values, where nothing that is said
    counts; ``counts``: whether clients count their own rows, by which these are worth something."""

    of: Callable[[Said], Tensor] = lambda said: torch.zeros(0)
    answers: bool = False
    teachers: bool = False
    before: bool = False
    rows: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None
    counts: bool = False

    @property
    def hears(self) -> bool:
        """Whether anything that is said counts."""
        return self.answers or self.teachers


UTILITIES: dict[str, Utility] = {
    "random": Utility(),
    "entropy": Utility(lambda said: entropy(said.teachers).mean(0), teachers=True),
    "margin": Utility(lambda said: margin(said.teachers).mean(0), teachers=True),
    "sure": Utility(lambda said: -entropy(said.teachers).mean(0), teachers=True),
    "disagreement": Utility(lambda said: disagreement(said.answers), answers=True),
    "contested": Utility(lambda said: contested(said.answers), answers=True),
    "gap": Utility(lambda said: gap(said.answers, said.teachers), answers=True, teachers=True),
    "telling": Utility(lambda said: telling(said.answers), answers=True),
    "changing": Utility(lambda said: changing(said.teachers, said.before), teachers=True, before=True),
    "rare": Utility(lambda said: rare(said.teachers), teachers=True),
    "dense": Utility(rows=dense),
    "census": Utility(counts=True),
    "hard": Utility(lambda said: hard(said.answers), answers=True),
}
