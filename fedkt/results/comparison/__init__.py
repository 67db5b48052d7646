"""A comparison read from its folder (``frames``), as text (``summary``), tables and pictures.

May import from ``results`` downwards. Begin with :class:`Comparison`.
"""

from fedkt.results.comparison.frames import Comparison

__all__ = ["Comparison"]
