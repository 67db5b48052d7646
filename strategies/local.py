"""Every client alone: the lower bound of every comparison."""

from typing import ClassVar

from fedkt.strategy import Contributions, Fused, Shares, Strategy
from fedkt.tasks import EVERY, TEXT


class Local(Strategy):
    """Train alone, share nothing."""

    tasks = EVERY | TEXT
    shares: ClassVar[tuple[Shares, ...]] = ("nothing",)
    client = "solo"
    reads_distill = frozenset()
    takes_mean = False
    fuses_by_class = True

    def fuse(self, contributions: Contributions) -> Fused | None:
        """Make no teacher."""
        return None
