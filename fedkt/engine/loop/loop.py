"""The round loop: two exchanges a round over any Flower grid, results and a checkpoint after each."""

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.serverapp import Grid

from fedkt.engine.loop import checkpoint
from fedkt.engine.loop.best import STAYS, Best, better, exhausted, keep
from fedkt.engine.loop.checkpoint import Checkpoint, Flush, on_disk_already
from fedkt.engine.loop.exchange import SimulatedTime, exchange
from fedkt.engine.loop.lines import (
    client_name,
    client_row,
    group_effect,
    losses_told,
    server_accuracy,
    spread,
)
from fedkt.engine.loop.plug_in import plug_in
from fedkt.engine.loop.recording import record
from fedkt.engine.loop.spending import Spending
from fedkt.errors import ERROR_FILE, Diverged, RunError
from fedkt.files import Aside, write_atomic
from fedkt.knowledge.contributions import client_order
from fedkt.privacy.statement import statement
from fedkt.results import metrics
from fedkt.results.folder import RunFolder
from fedkt.results.observer import Observer
from fedkt.strategy.base import Strategy
from fedkt.strategy.rounds.receiving import Outcome

MOST_DEATHS = 3
"""How often the last checkpoint is tried again where processes die while it is written."""
STATUSES = ("accepted", "rejected", "late", "declined", "failed")


@dataclass
class Totals:
    """What the summary adds up over rounds, and each client's newest metrics; part of the checkpoint."""

    up: int = 0
    down: int = 0
    wall_s: float = 0.0
    updates: int = 0
    replies: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATUSES, 0))
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    server: float | None = None
    """Newest accuracy of the server's own model on the common test set."""
    changed: list[str] = field(default_factory=list)
    """Clients whose model changed since it was measured."""
    epsilon: dict[str, float] = field(default_factory=dict)
    """What each client last said that its data have paid, in a private mode."""
    missed: int = 0
    """Rounds that ended without a quorum."""
    repeats: int = 0
    """How often a round was begun again for want of a quorum."""
    failures: dict[str, str] = field(default_factory=dict)
    """What each client said of its first failure."""
    best: Best | None = None
    """The best round so far by the clients' mean accuracy on validation rows."""
    simulated_s: float = 0.0
    """Simulated duration of the rounds, where clients dawdle."""
    startup_s: float = 0.0
    """What passed before the first round, each time that the run was begun or resumed."""
    coming: dict[str, Any] = field(default_factory=dict)
    """On a board: when clients come, and what is not measured yet (:mod:`fedkt.engine.loop.board_loop`)."""


class Loop:
    """Drives one strategy over one grid; ``stop`` ends the loop between two replies.

    ``begun``: when the run was, by the monotonic clock (None: now).
    """

    visits = 1
    """How many numbers of messages make a round."""

    def __init__(
        self,
        strategy: Strategy,
        folder: RunFolder,
        observer: Observer,
        stop: threading.Event,
        begun: float | None = None,
    ) -> None:
        self.strategy = strategy
        self.scenario = strategy.setting.scenario
        self.folder = folder
        self.flush: Flush = on_disk_already
        self.observer = observer
        self.stop = stop
        self.totals = Totals()
        self.spending = Spending(strategy, folder.checkpoint / "clients")
        self.round = 0
        self._simulated_s = 0.0
        self._writing = Aside()
        """Writes the checkpoint of a round while the next one goes on."""
        self._incomplete = False
        """Whether the last checkpoint was not written, since not all states that belong to it are there."""
        self._begun = time.monotonic() if begun is None else begun

    def restore(self, saved: Checkpoint) -> None:
        """Continue after the round of a checkpoint."""
        if saved.round:
            self.strategy.course.load_state(saved.tensors, saved.strategy)
            self.totals = Totals(**saved.loop)
            self.round = saved.round // self.visits
        self.strategy.course.kept = checkpoint.oldest(self.folder.checkpoint)

    def run(self, grid: Grid, flush: "Flush | None" = None) -> None:
        """Run the remaining rounds; ``flush`` brings the clients' states to disk where they are not yet."""
        self.flush = flush or on_disk_already
        self.totals.startup_s += time.monotonic() - self._begun
        try:
            while not self.over:
                self._one_round(grid, self.round + 1)
                self.round += 1
        except BaseException:
            with suppress(Exception):  # what ends the run is told, not what that may have kept from the disk
                self._writing.wait()
            raise
        self._writing.wait()
        for _ in range(MOST_DEATHS):
            if self._incomplete:
                self._save(self.round, lambda: None)
                self._writing.wait()

    @property
    def over(self) -> bool:
        """Whether all rounds were run, or too many were not better than the best one."""
        return self._over_after(self.round)

    def _over_after(self, number: int) -> bool:
        scenario = self.scenario
        return number >= scenario.rounds or exhausted(
            self.totals.best, number, scenario.patience, scenario.evaluate.every
        )

    def summary(self) -> dict[str, Any]:
        """Return the contents of ``summary.json``."""
        totals, scenario = self.totals, self.scenario
        accuracy = self._spread()
        rate = totals.updates / totals.wall_s if totals.wall_s else 0.0
        return {
            "scenario": scenario.name,
            "strategy": scenario.strategy.name,
            "engine": scenario.engine.kind,
            "seed": scenario.seed,
            "rounds": self.round,
            "clients": len(self.strategy.setting.dims),
            "metric": self.strategy.task.metric.told(),
            self.strategy.task.metric.part: {**accuracy, "server": totals.server},
            "best": totals.best,
            "stopped": self.round < scenario.rounds,
            "bytes": {"up": totals.up, "down": totals.down},
            "privacy": statement(scenario.privacy, self.spending.worst(totals.epsilon)),
            "time": {
                "wall_s": round(totals.wall_s, 3),
                "startup_s": round(totals.startup_s, 3),
                "client_updates": totals.updates,
                "client_updates_per_s": round(rate, 3),
            },
            "replies": totals.replies,
            "failures": totals.failures,
            "quorum": {"missed": totals.missed, "repeats": totals.repeats},
        }

    # One round ------------------------------------------------------------------------------------

    def _one_round(self, grid: Grid, number: int) -> None:
        begun = time.monotonic()
        for client, gone in self.scenario.participation.withdrawn.items():
            if number >= gone:
                self.totals.metrics.pop(client, None)
        strategy, nothing = self.strategy, (ArrayRecord(), ConfigRecord())
        self._simulated_s = 0.0
        fused = self._train(grid, number)
        trained = dict(strategy.course.outcomes)
        self._note_failures(number, trained)
        self._note_changed(c for c, o in trained.items() if o.status == "accepted")

        measure = number % self.scenario.evaluate.every == 0 or number == self.scenario.rounds
        unmeasured = set(strategy.setting.dims) - set(self.totals.metrics)
        strategy.course.wants_metrics = (
            frozenset(unmeasured | set(self.totals.changed)) if measure else frozenset()
        )
        messages = strategy.configure_evaluate(number, *nothing, grid)
        replies = self._exchange(grid, number, "evaluate", messages)
        if self.scenario.checkpoint.teachers and strategy.teachers.made_in(number):
            record(self.folder.path, number, strategy.course.receiving.accepted, strategy.course.rows)
        with self._plug_in(number):
            strategy.aggregate_evaluate(number, replies)
        evaluated = dict(strategy.course.outcomes)
        self.spending.look(number, trained, evaluated)
        told = losses_told(trained, evaluated)
        self._note_failures(number, evaluated)
        self._note_changed(c for c, o in evaluated.items() if o.taught is not None)
        for client, outcome in evaluated.items():
            if outcome.metrics:
                self.totals.metrics[client] = dict(outcome.metrics)
        if measure:
            answered = {c for c, o in evaluated.items() if o.metrics}
            self.totals.changed = [c for c in self.totals.changed if c not in answered]
            with self._plug_in(number):
                self.totals.server = server_accuracy(strategy)

        status = "no-quorum" if fused is None else "fused" if strategy.teachers.made_in(number) else "nothing"
        became = {s: sum(o.status == s for o in trained.values()) for s in STATUSES}
        wall_s = time.monotonic() - begun
        self._finish_round(number, status, became, trained, evaluated, told, measure, wall_s)

    def _train(self, grid: Grid, number: int) -> ArrayRecord | None:
        """Ask for contributions and fuse them; again where there is no quorum and the scenario says so."""
        strategy, nothing = self.strategy, (ArrayRecord(), ConfigRecord())
        part = self.scenario.participation
        fused = None
        for attempt in range(1 + part.retries * (part.no_quorum == "repeat")):
            strategy.course.attempt = attempt
            messages = list(strategy.configure_train(number, *nothing, grid))
            if attempt and not messages:
                break  # nobody is left who could answer
            self.totals.repeats += attempt > 0
            replies = self._exchange(grid, number, "train", messages)
            with self._plug_in(number):
                fused, _ = strategy.aggregate_train(number, replies)
            if fused is not None:
                break
        self.totals.missed += fused is None
        return fused

    def _exchange(self, grid: Grid, number: int, stage: str, messages: Iterable[Message]) -> list[Message]:
        """Push messages and pull the replies that come in time, in the order in which they come."""
        sent, strategy = list(messages), self.strategy
        self.observer.asked(number, stage, len(sent))
        replied = partial(self.observer.replied, number, stage)
        enough = min(len(sent), strategy.course.receiving.wanted) if stage == "train" else len(sent)
        deadline, churn = self.scenario.participation.deadline_s, strategy.setting.churn
        if churn is None:
            return exchange(grid, sent, deadline, enough, self.stop, replied)
        fate = partial(churn.fate, round_=number, stage=stage, attempt=strategy.course.attempt)
        time_ = SimulatedTime(
            {
                m.metadata.dst_node_id: fate(strategy.course.asking.client_at(m.metadata.dst_node_id))
                for m in sent
            }
        )
        replies = exchange(grid, time_.reached(sent), math.inf, len(sent), self.stop, replied)
        in_time, late, waited = time_.pass_(replies, deadline, enough)
        strategy.course.receiving.note_late(late)
        self._simulated_s += waited
        return in_time

    def _note_failures(self, number: int, outcomes: Mapping[str, Outcome]) -> None:
        """Tell each client's first failure. Raises RunError, or Diverged, where all who were asked failed."""
        failed = [o for o in outcomes.values() if o.status == "failed"]
        if failed and len(failed) == len(outcomes):
            kind = Diverged if all(o.reason == "diverged" for o in failed) else RunError
            first, end = failed[0], "." if kind is RunError else ""
            kept, error = self._kept(first), self.folder.path / ERROR_FILE
            where = "tracebacks are in the sites' failure.txt"
            if kept.is_file():
                write_atomic(error, kept.read_bytes())
                where = f"its traceback is in {error}"
            raise kind(f"every client failed in round {number}; the first: {self._said(first)}; {where}{end}")
        for outcome in failed:
            if outcome.client not in self.totals.failures:
                self.totals.failures[outcome.client] = outcome.detail
                file = self._kept(outcome)
                end = f"; the traceback is in {file}." if file.is_file() else "."
                self.observer.noted(f"failed: {self._said(outcome)}{end}")

    def _kept(self, outcome: Outcome) -> Path:
        """Return where a client keeps the traceback of its failure, if its folder is here."""
        return self.folder.checkpoint / "clients" / outcome.client / "failure.txt"

    def _said(self, outcome: Outcome) -> str:
        """Return a failure in words: what the client keeps of it to itself, where its folder is here."""
        kept = self._kept(outcome)
        if outcome.detail and kept.is_file():
            first = kept.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
            if first.startswith(outcome.detail):
                return first.rstrip(".")
        return outcome.detail.rstrip(".")

    def _plug_in(self, number: int) -> AbstractContextManager[None]:
        what = f"strategy '{self.scenario.strategy.name}' failed at the server in round {number}"
        return plug_in(self.folder.path, what)

    def _spread(self) -> dict[str, float | None]:
        """Return the spread of all metrics over the clients that are honest."""
        hostile = self.strategy.setting.hostile
        return spread({c: m for c, m in self.totals.metrics.items() if c not in hostile})

    def _note_changed(self, clients: Iterable[str]) -> None:
        self.totals.changed = sorted({*self.totals.changed, *clients}, key=client_order)

    def _finish_round(
        self,
        number: int,
        status: str,
        replies: Mapping[str, int],
        trained: Mapping[str, Outcome],
        evaluated: Mapping[str, Outcome],
        told: Mapping[str, metrics.Losses],
        measured: bool,
        wall_s: float,
    ) -> None:
        totals = self.totals
        outcomes = [*trained.values(), *evaluated.values()]
        up, down = sum(o.up for o in outcomes), sum(o.down for o in outcomes)
        totals.up += up
        totals.down += down
        totals.wall_s += wall_s
        totals.updates += replies["accepted"]
        for name, count in replies.items():
            totals.replies[name] += count
        row = {
            "round": number,
            "status": status,
            self.strategy.task.metric.part: (
                {**self._spread(), "server": totals.server} if measured else None
            ),
            "loss": metrics.mean_losses(
                its for c, its in told.items() if c not in self.strategy.setting.hostile
            ),
            "group_effect": group_effect((o.metrics for o in evaluated.values()), self.strategy.task.metric),
            "bytes": {"up": up, "down": down},
            "replies": replies,
            "wall_s": round(wall_s, 4),
            "report": dict(self.strategy.course.report),
            "refused": dict(sorted(self.strategy.course.receiving.answers.refused.items())),
            "attempts": self.strategy.course.attempt + 1,
        }
        if self.visits > 1:
            row["visits"] = number * self.visits
        if self.strategy.setting.churn is not None:
            row["simulated_s"] = round(self._simulated_s, 4)
            totals.simulated_s += self._simulated_s
        asked = sorted({*trained, *evaluated}, key=client_order)
        paid = self.spending.paid(trained, totals.epsilon)
        clients = [client_row(number, c, trained.get(c), evaluated.get(c), paid.get(c)) for c in asked]
        if self.strategy.course.central is not None:
            clients = [row | {"released": False} for row in clients]
        lost = [{"round": number, "client": client_name(c), **told[c]} for c in asked if told.get(c)]
        before = totals.best
        if measured:
            totals.best = better(
                before, number, self._spread().get("validation_mean"), self.strategy.task.metric
            )
        if (
            self._over_after(number)
            or totals.best is not before
            or self._stays(number)
            or number % self.scenario.checkpoint.every == 0
        ):
            self._save(number, partial(self.folder.append, row, clients, lost))
        else:
            self.folder.append(row, clients, lost)
        if given := [c for c, o in evaluated.items() if o.metrics.get("alarm")]:
            where = f"client{'s' * (len(given) > 1)} {', '.join(given)}"
            self.observer.noted(f"drift at {where} in round {number}.")
        self.observer.round_done(row, [{**its, "loss": told.get(str(its["client"]), {})} for its in clients])

    def _stays(self, number: int) -> bool:
        """Say whether the clients' states after a round are kept for good."""
        every = self.scenario.checkpoint.keep
        return every is not None and number % every == 0

    def _save(self, number: int, note_lines: Callable[[], None]) -> None:
        """Begin to write the checkpoint, which follows the states of the clients that belong to it."""
        self._writing.wait()
        # Always that of the checkpoint before, so that it does not depend on how fast the disk is.
        self.strategy.course.kept = kept = checkpoint.oldest(self.folder.checkpoint)
        engine, written = self.flush(kept)
        note_lines()
        with self._plug_in(number):
            tensors, note = self.strategy.course.state()
        totals, last, at = self.totals, number == self.scenario.rounds, number * self.visits
        done = Checkpoint(at, tensors, note, totals.__dict__, engine, last=last)
        content, best = checkpoint.as_bytes(done), totals.best

        def write() -> None:
            self._incomplete = not written()
            if self._incomplete:
                return
            if best is not None and best["round"] == number:
                keep(self.folder.checkpoint, at)
            if self._stays(number):
                keep(self.folder.checkpoint, at, STAYS)
            checkpoint.write(self.folder.checkpoint, at, content)

        self._writing.begin(write)
