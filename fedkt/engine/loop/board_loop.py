"""The loop of a board: no rounds, but visits in the order of simulated time
(:mod:`fedkt.strategy.rounds.board`).

A round of a run's folder is as many visits as there are clients, so that runs with and without rounds make
as many client updates in as many lines; ``simulated_s`` tells how long they took. A visit is taken when its
deposit is due: what the client trained until then depends on nobody else, so it is computed then. It
collects its teacher in the same moment, and is measured once it has digested it, which is later; a mean
over clients has of each what was measured last. At second 0 all are measured untrained, so that it is a
mean over all of them.
"""

import math
import threading
import time
from collections.abc import Iterable
from functools import partial

from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.serverapp import Grid

from fedkt.engine.loop.coming import Coming
from fedkt.engine.loop.exchange import exchange
from fedkt.engine.loop.lines import losses_told
from fedkt.engine.loop.loop import Loop
from fedkt.engine.loop.tally import Tally
from fedkt.results.folder import RunFolder
from fedkt.results.observer import Observer
from fedkt.strategy.base import Strategy
from fedkt.strategy.rounds.board import Board

NOTHING = (ArrayRecord(), ConfigRecord())


class BoardLoop(Loop):
    """Drives one strategy over the clients of one grid as they come.

    ``churn`` of the strategy's setting says how long their visits take, and who is there; ``places``: how
    many clients there will be, where not all are known yet (None: those that are known).
    """

    def __init__(
        self,
        strategy: Strategy,
        folder: RunFolder,
        observer: Observer,
        stop: threading.Event,
        begun: float | None = None,
        places: int | None = None,
    ) -> None:
        super().__init__(strategy, folder, observer, stop, begun)
        course = strategy.course
        course.board = self.board = Board(self.scenario.board)
        self.visits = course.asking.visits = places or len(strategy.setting.dims)

    # One round ------------------------------------------------------------------------------------

    def _one_round(self, grid: Grid, number: int) -> None:
        begun, tally, asking = time.monotonic(), Tally(), self.strategy.course.asking
        state, clients = self.totals.coming, list(self.strategy.setting.dims)
        if state:
            coming = Coming.read(state, self._lasts)
        else:
            coming = Coming.begun(clients, self._lasts)
            self._measure(grid, [client for client in clients if asking.there(client, 1)])
        since = coming.now
        for visit in range((number - 1) * self.visits + 1, number * self.visits + 1):
            client = coming.next(lambda client, at=visit: asking.there(client, at))  # type: ignore[misc]
            if client is not None:
                self._visit(grid, visit, client, coming, tally)
        self._note_failures(number, tally.trained)
        for client, found in coming.known().items():
            self.totals.metrics[client] = dict(found)
        self._simulated_s = coming.now - since
        self.totals.coming = coming.state()
        wall_s = time.monotonic() - begun
        done = tally.trained, tally.evaluated, tally.told
        self._finish_round(number, tally.status, tally.replies, *done, True, wall_s)

    def _measure(self, grid: Grid, clients: list[str]) -> None:
        """Measure untrained models, so that the first means are over all clients."""
        course = self.strategy.course
        course.wants_metrics = frozenset(clients)
        messages = self.strategy.configure_evaluate(0, *NOTHING, grid)
        self.strategy.aggregate_evaluate(0, self._sent(grid, 1, "evaluate", messages))
        self.spending.look(0, {}, course.outcomes)
        losses_told(course.outcomes)
        for client, outcome in course.outcomes.items():
            self.totals.metrics[client] = dict(outcome.metrics)

    def _visit(self, grid: Grid, number: int, client: str, coming: Coming, tally: Tally) -> None:
        """Let a client deposit, collect and digest; what it is measured at is known once it has."""
        strategy, course = self.strategy, self.strategy.course
        course.asking.turn, self.board.now = client, coming.now
        round_ = -(-number // self.visits)
        messages = list(strategy.configure_train(number, *NOTHING, grid))
        if not self._answers(client, coming.visits[client]):
            messages = []
        replies = self._sent(grid, round_, "train", messages)
        with self._plug_in(round_):
            fused, _ = strategy.aggregate_train(number, replies)
        trained = dict(course.outcomes)
        accepted, became = trained[client].status == "accepted", ""
        if accepted:
            became = self.became(number, fused is not None)
        course.wants_metrics = frozenset((client,) if accepted else ())
        messages = list(strategy.configure_evaluate(number, *NOTHING, grid))
        replies = self._sent(grid, round_, "evaluate", messages)
        with self._plug_in(round_):
            strategy.aggregate_evaluate(number, replies)
        evaluated = dict(course.outcomes)
        self.spending.look(number, trained, evaluated)
        tally.lost(losses_told(trained, evaluated))
        tally.deposit(trained[client], became)
        done = coming.again(client, digested=any(o.taught is not None for o in evaluated.values()))
        for outcome in evaluated.values():
            if outcome.metrics:
                coming.measured[client] = done, dict(outcome.metrics)
            tally.digestion(outcome)

    def became(self, number: int, fused: bool) -> str:
        """Return in a word what became of the deposit of a visit that was accepted."""
        self.totals.missed += not fused
        made = self.strategy.teachers.made_in(number)
        return "no-quorum" if not fused else "fused" if made else "nothing"

    def _sent(self, grid: Grid, round_: int, stage: str, messages: Iterable[Message]) -> list[Message]:
        """Push messages and pull all replies: time is simulated, so nobody is late."""
        sent = list(messages)
        self.observer.asked(round_, stage, len(sent))
        replied = partial(self.observer.replied, round_, stage)
        return exchange(grid, sent, math.inf, len(sent), self.stop, replied)

    # Time -----------------------------------------------------------------------------------------

    def _lasts(self, client: str, visit: int, stage: str) -> float:
        churn = self.strategy.setting.churn
        assert churn is not None
        return churn.fate(client, visit, stage, 0).seconds

    def _answers(self, client: str, visit: int) -> bool:
        churn = self.strategy.setting.churn
        assert churn is not None
        return churn.fate(client, visit, "train", 0).answers
