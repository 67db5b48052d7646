"""The server half of a method. ``base`` is what an author reads; ``fusing`` holds what methods fuse with
(robust centres, votes, a model of the server's own), ``rounds`` what every strategy's rounds have in common.

May import from ``adversity`` downwards. Begin with :class:`Strategy` and one file of ``strategies/``.
"""

from fedkt.knowledge.contributions import Contributions, client_order, stack
from fedkt.strategy.base import Shares, Strategy, StrategyConfig
from fedkt.strategy.fusing.fusion import Fused, mix
from fedkt.strategy.own_settings import idle, needs_classes, settings_for, temperature_of
from fedkt.strategy.rounds.given import Setting
from fedkt.strategy.rounds.receiving import Outcome

# A strategy's author finds all that a strategy needs here.
__all__ = [
    "Contributions",
    "Fused",
    "Outcome",
    "Setting",
    "Shares",
    "Strategy",
    "StrategyConfig",
    "client_order",
    "idle",
    "mix",
    "needs_classes",
    "settings_for",
    "stack",
    "temperature_of",
]
