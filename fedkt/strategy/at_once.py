"""Where estimators can take part, and why not elsewhere: they have no weights, no layers and no gradients."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fedkt.strategy.own_settings import settings_for, teaches

if TYPE_CHECKING:
    from fedkt.client.behaviour import Client
    from fedkt.models import Net
    from fedkt.scenario import Scenario
    from fedkt.strategy.base import Strategy


def estimator_problems(
    strategy: "type[Strategy]",
    behaviour: "type[Client]",
    config: Any,
    scenario: "Scenario",
    nets: "Iterable[Net | None]",
) -> list[str]:
    """Return which models are estimators that cannot take part, in sentences; None is no model at all."""
    return [
        f"strategy '{scenario.strategy.name}' cannot use model {label_of(net)!r}, since {why}."
        for net in nets
        if net is not None and (why := no_estimator(strategy, behaviour, config, scenario, net))
    ]


def no_estimator(
    strategy: "type[Strategy]", behaviour: "type[Client]", config: Any, scenario: "Scenario", net: "Net"
) -> str | None:
    """Return why a model that is fitted at once is none for a strategy, as a clause about it (None: it is).

    Alone and with pooled data it always can be. Else the strategy has to teach by predictions of transfer
    rows alone, which are learned as rows with probabilities.
    """
    if not net.refits:
        return None
    if scenario.data.task != "classification":
        return f"it is an estimator, which tells one class of a row, but data.task is {scenario.data.task}"
    if not teaches(strategy):
        return None
    if "weights" in strategy.shares:
        return "it is an estimator, without weights that could be shared"
    if "features" in strategy.shares or strategy.distils == "features":
        return "it is an estimator, without a layer whose features could be shared"
    if not behaviour.distils_transfer_rows:
        return (
            "it is an estimator, and what this strategy teaches acts on features or gradients of a net; "
            "strategies that exchange predictions about transfer rows can teach it"
        )
    form = settings_for(strategy, config, scenario).get("form")
    if votes_only(net) and form != "votes":
        return (
            "it has no predict_proba and so can only vote; privacy mode vote_gnmax exchanges votes, and "
            "scikit-learn's CalibratedClassifierCV makes probabilities of what it says"
        )
    return None


def votes_only(net: "Net") -> bool:
    """Say whether a model is an estimator that says a class and no probabilities."""
    return net.refits and bool(net.head.estimator.votes_only)  # type: ignore[union-attr]


def label_of(net: "Net") -> str:
    """Return what an estimator is called in sentences."""
    return str(net.head.estimator.label)  # type: ignore[union-attr]
