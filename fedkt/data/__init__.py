"""Data sets, how they are dealt to clients, and the rows that every client can see."""

from fedkt.data.dataset import load_dataset
from fedkt.data.federation import Federation, build

__all__ = ["Federation", "build", "load_dataset"]
