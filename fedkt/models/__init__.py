"""Models: every one is features and a head. The zoo is small; others come in by name or from Python."""

from fedkt.models.build import build, deal
from fedkt.models.net import Net, wrap

__all__ = ["Net", "build", "deal", "wrap"]
