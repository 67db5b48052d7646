"""What can be known to be wrong with how a teacher is changed on arrival, and a model before it speaks."""

from fedkt import registry
from fedkt.client.behaviour import Client
from fedkt.client.lessons.adapting import NEIGHBOURS
from fedkt.distill.relations import is_coupled, reads
from fedkt.knowledge.kinds import Logits
from fedkt.scenario import Scenario
from fedkt.scenario.about_adversity import Adapt
from fedkt.strategy.base import Strategy
from fedkt.strategy.own_settings import learns_jointly


def lesson_problems(strategy: type[Strategy], behaviour: type[Client], scenario: Scenario) -> list[str]:
    """Return why nothing can be mixed into a teacher, or taken off what it asks."""
    distill, name = scenario.clients.distill, scenario.strategy.name
    found = [
        *adapt_problems(strategy, scenario),
        *slim_problems(strategy, behaviour, scenario),
    ]
    if distill.snapshot is not None and behaviour.accepts is not Logits:
        found.append(
            "clients.distill.snapshot mixes a client's own answers into teachers of logits or probabilities, "
            f"but those of strategy '{name}' are {behaviour.accepts.kind}; leave it out."
        )
    if distill.project is not None and not learns_jointly(strategy, scenario):
        found.append(
            "clients.distill.project is about joint steps, of which there are none; set "
            "clients.distill.together true, or leave it out."
        )
    return found


def slim_problems(strategy: type[Strategy], behaviour: type[Client], scenario: Scenario) -> list[str]:
    """Return why no client can learn from a larger model of its own (``slim_from``)."""
    models, guard = scenario.clients.models, scenario.clients.guard
    if isinstance(models, dict) or not any("slim_from" in getattr(one, "settings", ()) for one in models):
        return []
    loss = registry.find("losses", scenario.clients.distill.loss or "kl")
    found = {
        "teaches on transfer rows, of which there are none": scenario.data.transfer is None,
        f"teaches in the steps of training, which strategy '{scenario.strategy.name}' has in its own "
        "form": not (behaviour.distils_transfer_rows or "nothing" in strategy.shares),
        "teaches row by row, but clients.distill.loss compares rows or looks back": bool(
            is_coupled(loss) or reads(loss)
        ),
        "trains on private rows, for which no privacy mode pays": scenario.privacy.mode != "none",
        "trains on all rows of a client, but data.tasks gives it some at a time": bool(scenario.data.tasks),
        "trains on rows that copies of clients.guard.folds must not know": bool(guard and guard.folds),
    }
    return [f"clients.models.slim_from {told}; leave it out." for told, holds in found.items() if holds]


def adapt_problems(strategy: type[Strategy], scenario: Scenario) -> list[str]:
    """Return why no copy can be brought to the transfer rows, or chosen by labelled ones."""
    adapt, name, found = scenario.clients.adapt, scenario.strategy.name, []
    if adapt.loss == "none":
        default = Adapt()
        extra = [key for key in Adapt.model_fields if getattr(adapt, key) != getattr(default, key)]
        return [f"clients.adapt.{key} has no effect with loss none; leave it out." for key in extra]
    if not strategy.needs_transfer:
        found.append(
            f"clients.adapt.loss is '{adapt.loss}', but clients of strategy '{name}' say nothing of transfer "
            "rows; it must be none."
        )
    found += [
        f"clients.adapt.{key} {what} labelled rows of data.public, but there are none; set data.public, or "
        "leave it out."
        for key, what in (("few", "chooses by"), ("budget", "asks for"))
        if getattr(adapt, key) is not None and scenario.data.public is None
    ]
    if adapt.budget is not None and scenario.rounds == 1:
        found.append(
            "clients.adapt.budget asks for labels that count from the next round on, but rounds is 1; it "
            "must be more, or leave the budget out."
        )
    transfer = scenario.data.transfer
    if (
        adapt.loss == "snc"
        and transfer is not None
        and (rows := transfer.asked or transfer.size) <= NEIGHBOURS
    ):
        found.append(
            f"clients.adapt.loss snc looks at the {NEIGHBOURS} nearest other rows, but {rows} "
            "transfer "
            "rows are asked for in a round; there must be more."
        )
    return found
