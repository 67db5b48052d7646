"""A board at the coordinator: what each call of a site does, whatever carries it.

A visit is three calls: ``train`` hands out the request, ``deposit`` takes the contribution and hands out
the teacher, ``done`` takes what the site measured of itself. A site that comes again, since it was
restarted or heard no answer, gets the same request again, and what it deposits counts once.

**A restart is a non-event.** Numbers of requests follow from a secret that lies on the disk, so a request
that a process handed out is known to the next one. Everything else (contributions, teachers, counts,
figures) is in one checkpoint file, which is written whole, and on the disk, before a call that changed
something is answered; a call that was not answered is repeated by its site.
"""

import json
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from fedkt.data.made.stock import Stock, stock_for
from fedkt.deploy.coordinator.reception import alike_made, described_facts
from fedkt.deploy.wire.hello import Facts
from fedkt.deploy.wire.invitation import Invitation
from fedkt.deploy.wire.refusal import Reason, Refused
from fedkt.engine.checks.method_checks import checked_method
from fedkt.engine.loop import checkpoint
from fedkt.engine.loop.board_loop import BoardLoop
from fedkt.engine.loop.checkpoint import Checkpoint
from fedkt.engine.loop.lines import losses_told
from fedkt.engine.loop.tally import Tally
from fedkt.engine.runtimes.flwr_internals import FIRST_NODE, LocalGrid
from fedkt.files import write_json, write_secret
from fedkt.knowledge.contributions import client_order
from fedkt.knowledge.kinds import Dims
from fedkt.knowledge.protocol import binding_of, round_of
from fedkt.results.folder import RunFolder
from fedkt.results.observer import Observer
from fedkt.scenario import Scenario
from fedkt.strategy.rounds.given import Setting
from fedkt.strategy.rounds.receiving import Outcome, Stage
from fedkt.tasks import task_of

ROSTER, SECRET = "roster.json", "board.secret"
HELLO, SLACK = 2 << 20, 1 << 16
"""Bytes of an introduction at most, and of a reply beside its knowledge."""
NOTHING = (ArrayRecord(), ConfigRecord())


class Nobody(LocalGrid):
    """A grid that nobody is behind: sites come by themselves."""

    def get_node_ids(self) -> tuple[int, ...]:
        """Return no nodes."""
        return ()

    def push_messages(self, messages: Any) -> list[str]:
        """Send nothing."""
        return []

    def pull_messages(self, message_ids: Any) -> list[Message]:
        """Return nothing."""
        return []


class DeskLoop(BoardLoop):
    """The rounds of a board that sites come to: nothing is asked, so only their ends are driven."""

    def end_round(self, number: int, tally: Tally, wall_s: float) -> None:
        """Write a round's lines, once it has its visits."""
        for client, outcome in tally.evaluated.items():
            if outcome.metrics:
                self.totals.metrics[client] = dict(outcome.metrics)
        done = tally.trained, tally.evaluated, tally.told
        self._finish_round(number, tally.status, tally.replies, *done, True, wall_s)
        self.round = number

    def _save(self, number: int, note_lines: Callable[[], None]) -> None:
        """Write the lines alone: the desk writes the checkpoint."""
        note_lines()


class BoardDesk:
    """The board of one run. Every method may be called from any thread; calls are done one by one.

    ``places``: how many sites take part; the first so many that fit together. ``clock``: seconds.
    """

    def __init__(
        self,
        invitation: Invitation,
        scenario: Scenario,
        folder: RunFolder,
        observer: Observer,
        *,
        places: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.invitation, self.places = invitation, places
        self._scenario, self._folder, self._observer, self._clock = scenario, folder, observer, clock
        self._lock, self._nobody = threading.Lock(), Nobody()
        self._roster: dict[str, Facts] = {}
        self._loop: DeskLoop | None = None
        self.largest = HELLO
        """Bytes that no call is longer than."""
        self._secret = self._kept_secret()
        file = folder.path / ROSTER
        if file.is_file():
            found = json.loads(file.read_text())
            self._roster = {name: Facts(**facts) for name, facts in found.items()}
            self._open()

    @property
    def over(self) -> bool:
        """Whether as many visits were made as the scenario's rounds have."""
        return self._loop is not None and self._loop.over

    @property
    def visits(self) -> int:
        """How many deposits were taken."""
        return 0 if self._loop is None else int(self._loop.totals.coming["visits"])

    @property
    def digesting(self) -> list[str]:
        """The sites that have a teacher and have not told yet what they made of it."""
        return [] if self._loop is None else list(self._loop.totals.coming.get("digesting", ()))

    # Calls ----------------------------------------------------------------------------------------

    def hello(self, name: str, facts: Facts) -> None:
        """Give a site a place. Raises Refused where what it has does not fit the others'."""
        with self._lock:
            known = self._roster.get(name)
            if known is not None and (known.dims, known.common) == (facts.dims, facts.common):
                return
            for refusal in self._objections(name, facts):
                raise refusal
            self._roster[name] = facts
            write_json(self._folder.path / ROSTER, {n: f.model_dump() for n, f in self._roster.items()})
            self._open()

    def train(self, name: str) -> RecordDict | None:
        """Return the request that begins a visit; None where the board is over."""
        with self._lock:
            loop = self._seated(name)
            if loop.over:
                return None
            course = loop.strategy.course
            course.asking.turn, course.attempt = name, 0
            course.kept = course.receiving.answers.newest(name)
            return self._one(loop.strategy.configure_train(self.visits + 1, *NOTHING, self._nobody))

    def deposit(self, name: str, content: RecordDict) -> RecordDict | None:
        """Take a contribution; return the teacher that follows, None where the site declined or failed.

        Raises Refused where it is none that this board can take: then it changes nothing.
        """
        with self._lock:
            loop, number = self._seated(name), round_of(content)
            course, tally = loop.strategy.course, self._tally()
            again = number == course.receiving.answers.newest(name) and number > 0
            if again and binding_of(content).nonce == course.receiving.answers.ask(name, number, "train"):
                course.expect(name, number, "evaluate")  # taken before; its answer was not heard
                return self._taught(loop, name, number)
            if loop.over:
                raise Refused("over", "all visits of this board were made meanwhile.")
            visit, loop.board.now = self.visits + 1, max(loop.board.now, self._clock())
            before = course.receiving.answers.state()
            message = self._heard(loop, name, number, "train", content)
            fused = course.take_contributions(number, [message], as_=visit)
            outcome = course.outcomes[name]
            if outcome.status != "accepted":
                course.receiving.answers.load(before)  # so that the same visit can still be made
                self._refuse(outcome)
                tally.deposit(outcome)
                loop.totals.coming["tally"] = tally.state()
                self._keep(loop)
                return None
            tally.lost(losses_told({name: outcome}))
            tally.deposit(outcome, loop.became(visit, fused is not None))
            teacher = self._taught(loop, name, number)
            tally.digestion(course.outcomes[name])
            loop.totals.coming |= {"visits": visit, "tally": tally.state()}
            loop.totals.coming["digesting"] = sorted({*self.digesting, name})
            if visit % self.places == 0:
                self._end_round(loop, visit // self.places)
            self._keep(loop)
            return teacher

    def done(self, name: str, content: RecordDict) -> None:
        """Take what a site measured after it digested a teacher. Raises Refused."""
        with self._lock:
            loop, number = self._seated(name), round_of(content)
            course, tally = loop.strategy.course, self._tally()
            message = self._heard(loop, name, number, "evaluate", content)
            course.take_metrics(number, [message])
            outcome = course.outcomes[name]
            self._refuse(outcome)
            tally.lost(losses_told({name: outcome}))
            if outcome.metrics:
                loop.totals.metrics[name] = dict(outcome.metrics)
            tally.digestion(outcome)
            loop.totals.coming["tally"] = tally.state()
            loop.totals.coming["digesting"] = [site for site in self.digesting if site != name]
            self._keep(loop)

    # Steps ----------------------------------------------------------------------------------------

    def _seated(self, name: str) -> DeskLoop:
        if self._loop is None or name not in self._roster:
            raise Refused("roster", f"{name} has no place at this board; it has to introduce itself first.")
        return self._loop

    def _objections(self, name: str, facts: Facts) -> list[Refused]:
        if name in self._roster:
            return [Refused("model", f"{name} came with another model or transfer set than before.")]
        if len(self._roster) >= self.places:
            return [Refused("roster", f"all {self.places} places of this board are taken.")]
        found: list[Refused] = []
        wanted = self.invitation.transfer
        if wanted is not None and facts.transfer != wanted:
            found.append(Refused("transfer", f"{name} holds another transfer set than {wanted[:12]}."))
        alike_made({name: facts}, partial(_stock, self._scenario), lambda _, no: found.append(no))
        first = next(iter(self._roster.values()), facts)
        if facts.common != first.common:
            reason: Reason = "transfer" if facts.transfer != first.transfer else "model"
            told = described_facts(facts, first), described_facts(first, facts)
            found.append(Refused(reason, f"{name} has {told[0]}; the board has {told[1]}."))
        return found

    def _open(self) -> None:
        """Make the board of the sites that have a place, or give a new one its place."""
        names = sorted(self._roster, key=client_order)
        dims = {n: replace(self._roster[n].dims, answers=task_of(self._scenario.data).answers) for n in names}
        if self._loop is None:
            self._loop = self._begun(dims)
        held: Any = self._loop.strategy.setting.dims
        held.update(dims)
        nodes = {FIRST_NODE + i: name for i, name in enumerate(self._roster)}
        self._loop.strategy.course.asking.seat(nodes)
        self.largest = max(HELLO, *(_size(self._loop, name) + SLACK for name in names))

    def _begun(self, dims: dict[str, Dims]) -> DeskLoop:
        scenario, folder = self._scenario, self._folder
        kind, config = checked_method(scenario)
        some = next(iter(self._roster.values()))
        setting = Setting(
            scenario=scenario,
            run=folder.run,
            dims=dims,
            transfer=some.transfer,
            input=some.spec,
            own=folder.checkpoint / "server",
            stock=_stock(scenario, some),
        )
        strategy = kind(config, setting)
        strategy.course.receiving.answers.secret = self._secret
        loop = DeskLoop(strategy, folder, self._observer, threading.Event(), places=self.places)
        loop.restore(checkpoint.read(folder.checkpoint))
        folder.truncate(loop.round)
        loop.totals.coming = loop.totals.coming or {"visits": 0, "tally": Tally().state()}
        return loop

    def _tally(self) -> Tally:
        assert self._loop is not None
        return Tally.read(self._loop.totals.coming["tally"])

    def _heard(self, loop: DeskLoop, name: str, number: int, stage: Stage, content: RecordDict) -> Message:
        """Return a reply as a grid would bring it, to a request that is open now."""
        if not 0 < number <= self.visits + 1:
            raise Refused("message", f"nobody was asked about visit {number}.")
        loop.strategy.course.expect(name, number, stage)
        (_, node) = loop.strategy.course.asking.places([name])[0]
        return Message(content, reply_to=Message(RecordDict(), node, stage))

    def _taught(self, loop: DeskLoop, name: str, number: int) -> RecordDict:
        loop.strategy.course.wants_metrics = frozenset((name,))
        return self._one(loop.strategy.configure_evaluate(number, *NOTHING, self._nobody))

    @staticmethod
    def _one(messages: Any) -> RecordDict:
        (message,) = messages
        content: RecordDict = message.content
        return content

    @staticmethod
    def _refuse(outcome: Outcome) -> None:
        if outcome.status == "rejected":
            kind: Reason = "protocol" if outcome.reason == "protocol" else "message"
            raise Refused(kind, f"{outcome.reason}: {outcome.detail}"[:500])

    def _end_round(self, loop: DeskLoop, number: int) -> None:
        wall_s = self._clock() - loop.totals.coming.get("since", self._clock())
        loop.end_round(number, self._tally(), max(0.0, wall_s))
        loop.totals.coming |= {"tally": Tally().state(), "since": self._clock()}
        if loop.over:
            summary = loop.summary() | {"engine": "board"}
            self._folder.finish(summary)
            self._observer.finished(summary)

    def _keep(self, loop: DeskLoop) -> None:
        """Bring everything to the disk: one file, whole or not at all."""
        tensors, note = loop.strategy.course.state()
        held = Checkpoint(self.visits, tensors, note, loop.totals.__dict__, {})
        checkpoint.write(self._folder.checkpoint, self.visits, checkpoint.as_bytes(held))

    def _kept_secret(self) -> bytes:
        file = self._folder.path / SECRET
        if not file.is_file():
            write_secret(file, secrets.token_hex(32).encode())
        return bytes.fromhex(file.read_text())


def _stock(scenario: Scenario, facts: Facts) -> Stock | None:
    """Return what makes the transfer rows for a kind of data, None where none are made."""
    return stock_for(scenario, facts.spec, tuple(facts.columns) or None, None)


def _size(loop: DeskLoop, name: str) -> int:
    """Return the bytes of a site's contribution."""
    strategy = loop.strategy
    dims = strategy.setting.dims[name].about(0)
    return sum(s.nbytes for s in strategy.behaviour.contribution(dims, strategy.client_settings).values())
