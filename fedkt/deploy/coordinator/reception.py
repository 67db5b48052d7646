"""Who takes part: sites are greeted as their nodes come, and seated when what they have fits together.

Node ids are Flower's; a site's name is its own. A node that was refused is asked again from time to time,
since its operator may have put things right.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version

from flwr.app import Message
from flwr.serverapp import Grid

from fedkt.data.columns.labels import listed
from fedkt.data.made.stock import Stock
from fedkt.deploy.wire.hello import Facts, heard
from fedkt.deploy.wire.refusal import Refused
from fedkt.knowledge.protocol import who_are_you

GREETING_S = 60.0
"""A node that has not answered by then is asked again; so is one that was refused."""
PAUSE_S = 0.2

Tell = Callable[[str, Refused], None]


@dataclass
class Reception:
    """Greets nodes through Flower's grid; ``refused`` is told of each refusal."""

    grid: Grid
    refused: Tell
    here: dict[int, str] = field(default_factory=dict)
    """Nodes that introduced themselves, with their site's name."""
    facts: dict[str, Facts] = field(default_factory=dict)
    """What each site said of itself."""
    _asked: dict[int, float] = field(default_factory=dict)
    _open: dict[str, int] = field(default_factory=dict)

    def online(self) -> set[int]:
        """Greet the nodes that are new, hear those that answered; return the nodes that are there."""
        there, now = set(self.grid.get_node_ids()), time.monotonic()
        new = [
            n for n in sorted(there - set(self.here)) if now - self._asked.get(n, -GREETING_S) >= GREETING_S
        ]
        if new:
            ids = self.grid.push_messages([who_are_you(node, GREETING_S) for node in new])
            self._asked |= dict.fromkeys(new, now)
            self._open |= {i: node for i, node in zip(ids, new, strict=True) if i}
        if self._open:
            for reply in list(self.grid.pull_messages(list(self._open))):
                self._hear(reply, self._open.pop(reply.metadata.reply_to_message_id, None))
        return there

    def wait(self, sites: int | None, seconds: float) -> None:
        """Greet until this many sites are here, or the time is over."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.online()
            if sites is not None and len(set(self.here.values())) >= sites:
                return
            time.sleep(PAUSE_S)

    def _hear(self, reply: Message, node: int | None) -> None:
        if node is None or not reply.has_content():
            return
        try:
            name, facts = heard(reply.content)
            other = next((n for n, held in self.here.items() if held == name and n != node), None)
            if other is not None and other in set(self.grid.get_node_ids()):
                raise Refused("roster", f"two nodes say that they are '{name}'; the first is believed.")
        except Refused as refusal:
            self.refused(f"node {node}", refusal)
            return
        if other is not None:
            del self.here[other]  # the site came back as a new node
        self.here[node], self.facts[name] = name, facts


def alike_made(
    facts: Mapping[str, Facts], stock: Callable[[Facts], Stock | None], tell: Tell
) -> dict[str, Facts]:
    """Return the sites whose made rows are those that are made here; tell of the others.

    ``stock`` returns what makes the rows of a scenario for a site's kind of data, None where it makes none.
    """
    kept = {}
    for name, known in facts.items():
        here = stock(known)
        if here is None or known.transfer == here.hash(here.first):
            kept[name] = known
        elif known.recipe != here.recipe:
            words = f"its rows are made by another recipe: fedkt {known.fedkt} there, {version('fedkt')} here"
            tell(name, Refused("transfer", f"{name}: {words}."))
        else:
            versions = f"numpy {known.numpy} there, {version('numpy')} here"
            words = f"rows made there differ from those made here by the same recipe: {versions}"
            tell(name, Refused("transfer", f"{name}: {words}."))
    return kept


def fitting(facts: Mapping[str, Facts], tell: Tell) -> dict[str, Facts]:
    """Return the sites that have most in common (transfer set, classes, inputs); tell of the others.

    Raises Refused where no group is the largest: then nobody can say who is right.
    """
    groups: dict[tuple[object, ...], list[str]] = {}
    for name in sorted(facts):
        groups.setdefault(facts[name].common, []).append(name)
    ranked = sorted(groups.values(), key=len, reverse=True)
    if len(ranked) > 1 and len(ranked[0]) == len(ranked[1]):
        first, second = (facts[group[0]] for group in ranked[:2])
        told = [described_facts(first, second), described_facts(second, first)]
        words = " and ".join(f"{', '.join(g)} ({text})" for g, text in zip(ranked[:2], told, strict=True))
        raise Refused("transfer", f"the sites do not agree: {words}.")
    for group in ranked[1:]:
        reason = "transfer" if facts[group[0]].transfer != facts[ranked[0][0]].transfer else "model"
        for name in group:
            own, most = facts[name], facts[ranked[0][0]]
            mine, theirs = described_facts(own, most), described_facts(most, own)
            tell(name, Refused(reason, f"{name} has {mine}; the others have {theirs}."))  # type: ignore[arg-type]
    return {name: facts[name] for name in (ranked[0] if ranked else [])}


def described_facts(facts: Facts, others: Facts) -> str:
    """Return what a site has; names of labels and columns only where they differ from the others'."""
    held = f"transfer set {facts.transfer[:12]} of {facts.rows} rows" if facts.transfer else "no transfer set"
    shape = "x".join(str(n) for n in facts.input.shape)
    words = [held, f"{facts.classes} classes", f"{facts.input.kind} inputs of {shape}"]
    for what, mine, theirs in (
        ("labels", facts.label_names, others.label_names),
        ("columns", facts.columns, others.columns),
    ):
        if mine != theirs:
            words.append(f"{what} {listed(mine) or 'without names'}")
    remedy = ""
    if facts.label_names != others.label_names:
        remedy = " (data.labels of the scenario fixes the names of all classes)"
    elif facts.columns != others.columns:
        remedy = " (data.columns of the scenario fixes the columns and their order)"
    return ", ".join(words) + remedy
