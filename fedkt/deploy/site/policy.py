"""What a site agrees to: pure checks of a scenario, and of a request, against the site's own file."""

from fedkt import registry
from fedkt.client.behaviour import Client
from fedkt.client.lessons.blocking import maskable
from fedkt.deploy.site.site_file import Policy
from fedkt.deploy.wire.refusal import Refused
from fedkt.errors import InputError
from fedkt.knowledge.codec import Expected
from fedkt.scenario import Scenario
from fedkt.strategy.base import Strategy
from fedkt.strategy.own_settings import behaviour_of


def objections(policy: Policy, scenario: Scenario) -> list[Refused]:
    """Return every reason why a site with this policy takes no part in this scenario."""
    found: list[Refused] = []
    try:
        strategy: type[Strategy] = registry.find("strategies", scenario.strategy.name)
        behaviour: type[Client] = behaviour_of(strategy, scenario.data)
    except InputError as error:
        return [Refused("strategy", f"this site has no such strategy: {error}")]
    name, allowed = scenario.strategy.name, policy.strategies
    if allowed is not None and name not in allowed:
        found.append(
            Refused("strategy", f"strategy '{name}' is not among this site's: {', '.join(allowed)}.")
        )
    if "data" in strategy.shares:
        return [*found, Refused("kind", f"strategy '{name}' pools all data; data never leave a site.")]
    kinds: set[str] = {shared for shared in strategy.shares if shared in ("weights", "features")}
    # A behaviour that may send kinds of more than one sort says so by their base.
    kinds |= {getattr(kind, "kind", "any") for kind in (behaviour.sends, behaviour.accepts)} - (
        {"any"} if kinds else set()
    )
    for kind in sorted(kinds - set(policy.kinds)):
        found.append(
            Refused(
                "kind", f"strategy '{name}' exchanges {kind}; this site allows {', '.join(policy.kinds)}."
            )
        )
    if (policy.never_learn or scenario.participation.blocked) and not maskable(behaviour.accepts):
        found.append(
            Refused(
                "classes",
                f"this site takes classes out of what it is taught, but teachers of strategy '{name}' are "
                f"{behaviour.accepts.kind}, from which none can be taken out.",
            )
        )
    made = scenario.data.transfer is not None and scenario.data.transfer.made
    if scenario.data.transfer is not None and policy.transfer == ("held" if made else "made"):
        allowed_rows = "rows that it makes itself" if policy.transfer == "made" else "rows that it holds"
        found.append(
            Refused(
                "transfer",
                f"the transfer set is {' or '.join(scenario.data.transfer.sources)}; this site answers about "
                f"{allowed_rows}.",
            )
        )
    mode = scenario.privacy.mode
    if mode not in policy.privacy:
        found.append(
            Refused(
                "privacy", f"privacy mode '{mode}' is not among this site's: {', '.join(policy.privacy)}."
            )
        )
    if mode == "none" and policy.max_epsilon is not None:
        words = f"without a privacy mode nothing bounds epsilon; this site allows {policy.max_epsilon:g}."
        found.append(Refused("budget", words))
    quorum = scenario.participation.quorum
    if "nothing" not in strategy.shares and quorum < policy.min_participants:
        found.append(
            Refused(
                "participants",
                f"the scenario fuses the knowledge of {quorum} already; this site asks for at least "
                f"{policy.min_participants}, so participation.quorum must be that.",
            )
        )
    return found


def transfer_objection(policy: Policy, held: str, wanted: str | None) -> Refused | None:
    """Say whether a site that holds a transfer set may answer about it (hashes; "" is no set)."""
    if held and policy.transfer_sets is not None and held not in policy.transfer_sets:
        return Refused("transfer", f"the site's transfer set {held[:12]} is not in its policy.")
    if wanted is not None and held != wanted:
        return Refused(
            "transfer", f"the site holds transfer set {held[:12]}…; the run is about {wanted[:12]}…."
        )
    return None


def made_objection(number: int, held: str, wanted: str, versions: tuple[str, str]) -> Refused | None:
    """Say whether the rows of a round are others here than those that it asks about (their hashes).

    ``versions``: of NumPy, here and at the coordinator.
    """
    if held == wanted:
        return None
    here, there = versions
    return Refused(
        "transfer",
        f"rows that the same recipe makes here for round {number} differ from those that the coordinator "
        f"asks about: numpy {here} here, {there or 'an unknown version'} there.",
    )


def size_objection(policy: Policy, expected: Expected) -> Refused | None:
    """Say whether a reply with these arrays is too large."""
    size = sum(spec.nbytes for spec in expected.values())
    if size <= policy.max_reply_bytes:
        return None
    return Refused("size", f"the reply would have {size} bytes; this site allows {policy.max_reply_bytes}.")
