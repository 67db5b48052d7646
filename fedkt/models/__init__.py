"""Models: every one is features and a head. The zoo is small; others come in by name or from Python.

May import from ``client`` downwards. Begin with :mod:`fedkt.models.net`; :func:`wrap` takes
nets of other libraries.
"""

from fedkt.models.build import build, deal
from fedkt.models.net import Net
from fedkt.models.wrapped import wrap

__all__ = ["Net", "build", "deal", "wrap"]
