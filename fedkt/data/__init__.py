"""Data sets, how they are dealt to clients, and the rows that every client can see.

May import from ``scenario`` downwards. Begin with :func:`build` (``building``) and :class:`Federation`.
"""

from fedkt.data.building import build
from fedkt.data.federation import Federation
from fedkt.data.sets.reading import load_dataset

__all__ = ["Federation", "build", "load_dataset"]
