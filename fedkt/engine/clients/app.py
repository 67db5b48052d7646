"""The Flower ``ClientApp`` of every engine: handlers around :class:`~fedkt.engine.clients.party.Party`.

Simulated nodes are told apart by their ``partition-id``. The handlers live in this importable module
and hold no data, so that Ray pickles them by name and each process keeps its world between messages.

What a client tells of its failures: an error's text may quote private data or weights, so it stays with the
client, in its ``failure.txt``. Told in words is only what is wrong with the server's own message, and what
follows from the kind of error alone.
"""

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from fedkt.client.state import DiskStore, Held, MemoryStore, StateStore
from fedkt.client.training import one_thread, warm_up
from fedkt.engine.clients import trial
from fedkt.engine.clients.cohorts import Cohorts, Plan, is_out_of_memory
from fedkt.engine.clients.jobs import EncodeJob, Work, lockstep, one_by_one
from fedkt.engine.clients.party import Party
from fedkt.engine.world import memory
from fedkt.engine.world.world import Place, World, world_at
from fedkt.errors import Diverged, RunError, own_code
from fedkt.knowledge.codec import LIMIT, Expected, Rejected, decode
from fedkt.knowledge.kinds import Dims
from fedkt.knowledge.protocol import (
    MAX_NAME,
    MAX_TEXT,
    Binding,
    Decode,
    Reply,
    Request,
    Shapes,
    i_am,
    round_of,
)
from fedkt.privacy.ledger import Declined
from fedkt.strategy.fusing import remedies
from fedkt.uncompiled import without_compiler


class Home(Protocol):
    """Where a process finds what its clients need; picklable, and cheap to call again."""

    def __call__(self) -> tuple[World, StateStore]: ...


OPENING, SENDING = "open", "send"
"""The stages in which a message is checked, and in which the reply is encoded."""

Step = Callable[[Party, Request, Callable[[str], None]], Work[Reply]]


class PartyApp(ClientApp):
    """fedkt's clients: one message at a time, as Flower calls an app, or many at once.

    An exception costs the client's reply, which is counted as failed; with ``raise_errors`` it ends the run.
    """

    steps: Mapping[str, Step] = {"train": Party.train, "evaluate": Party.evaluate}

    def __init__(self, home: Home, *, raise_errors: bool = False) -> None:
        super().__init__()
        self._home, self._raise_errors = home, raise_errors
        self.query()(partial(_introduce, home))
        self.train()(self._alone)
        self.evaluate()(self._alone)

    def batches(
        self, messages: Sequence[Message], contexts: Mapping[int, Context]
    ) -> Iterator[list[Message]]:
        """Answer messages of one kind, a cohort at a time; ``contexts`` by node."""
        for message in messages:
            yield [self(message, contexts[message.metadata.dst_node_id])]

    def _alone(self, message: Message, context: Context) -> Message:
        with one_thread():
            return lockstep([self._visit(message, context)])[0]

    def _visit(self, message: Message, context: Context, decoded: Decode = decode) -> Work[Message]:
        step = self.steps[message.metadata.message_type]
        return _visit(self._home, self._raise_errors, step, message, context, decoded)


class ResidentApp(PartyApp):
    """The clients of one process, which keeps their states in memory between flushes; they work in cohorts.

    ``share``: the part of the machine's memory that this process may count on.
    """

    def __init__(
        self, world: World, states: Path, plan: Plan, *, share: float = 1.0, raise_errors: bool = False
    ) -> None:
        self._world, self._share = world, share
        self._store = MemoryStore(DiskStore(states), share * memory.for_states(world.scenario.engine))
        super().__init__(lambda: (world, self._store), raise_errors=raise_errors)
        self.follow(plan)
        memory.keep_freed()
        warm_up()

    def choose(self) -> Plan:
        """Choose the cohorts of the run by a trial in this process, and follow them."""
        chosen = trial.plan(self._world, self._plan.units, self._share)
        self.follow(chosen)
        return chosen

    def follow(self, plan: Plan) -> None:
        """Put clients together as the plan says."""
        self._plan, self._cohorts = plan, Cohorts(self._world, plan, self._share)

    def flush(self, kept: int) -> Mapping[str, int]:
        """Begin to bring the states that this process holds to disk; return its cohorts' sizes."""
        self._store.flush(kept)
        return self._cohorts.sizes

    def written(self) -> bool:
        """Wait until they are there, and say so."""
        self._store.written()
        return True

    def give(self, partitions: Sequence[int]) -> Mapping[str, Held]:
        """Let nodes go: return the states that are in memory alone or newest there."""
        clients = [self._world.names[i] for i in partitions]
        return {c: held for c in clients if (held := self._store.give(c)) is not None}

    def take(self, held: Mapping[str, Held]) -> None:
        """Hold states that another process gave."""
        for client, its in held.items():
            self._store.take(client, its)

    def batches(
        self, messages: Sequence[Message], contexts: Mapping[int, Context]
    ) -> Iterator[list[Message]]:
        """Answer messages of one kind, a cohort at a time; ``contexts`` by node."""
        if any(message.metadata.message_type not in self.steps for message in messages):
            yield from super().batches(messages, contexts)
            return
        by_client = {}
        for message in messages:
            context = contexts[message.metadata.dst_node_id]
            by_client[client_of(self._world, context)] = message, context
        once = Once()
        for cohort in self._cohorts.cut(list(by_client)):
            run = self._cohorts.run if len(cohort) > 1 else one_by_one
            with one_thread():
                replies = lockstep([self._visit(*by_client[client], once.decode) for client in cohort], run)
            yield replies


def make_app(home: Home, *, raise_errors: bool = False) -> ClientApp:
    """Build the app of clients that live at ``home``."""
    return PartyApp(home, raise_errors=raise_errors)


def client_of(world: World, context: Context) -> str:
    """Return the name of the client that this node plays."""
    return world.names[int(context.node_config["partition-id"])]


def _introduce(home: Home, message: Message, context: Context) -> Message:
    world, _ = home()
    return i_am(client_of(world, context), message)


def _visit(
    home: Home, raise_errors: bool, step: Step, message: Message, context: Context, decoded: Decode
) -> Work[Message]:
    """Do what one message asks of one client."""
    world, store = home()
    client = client_of(world, context)
    at = [OPENING]
    number = round_of(message.content)
    transfer = world.transfer_hash_in(number)
    binding = Binding("", 0, transfer)
    expected: Expected = {}
    try:
        request = Request.unpack(message.content, transfer, world.dims(client), _teacher(world), decoded)
        binding = request.binding
        at.append("begin")
        party = Party(world, store, client)
        reply = yield from step(party, request, at.append)
        at.append(SENDING)
        expected = party.contribution(request)
        content = yield from _packed(reply, expected)
    except Declined as no:
        reply = Reply(binding, client, "declined", no.reason[:MAX_NAME], no.detail[:MAX_TEXT])
        content = reply.pack({})
    except (Exception, SystemExit) as error:  # a model of a user's own may call sys.exit()
        what = failure(world, client, binding.round, at[-1], error)
        if raise_errors:
            raise error if isinstance(error, Diverged) else RunError(what.kept.partition("\n")[0]) from error
        content = failed(binding, client, what).pack({})
        store.note_failure(client, what.kept)
    return Message(content, reply_to=message)


def _packed(reply: Reply, expected: Expected) -> Work[RecordDict]:
    """Encode a reply; its contribution is checked with those of the clients that are as far."""
    if reply.arrays is None:
        return reply.pack(expected)
    record: ArrayRecord = yield EncodeJob(SENDING, reply.arrays, expected)
    return reply.pack(expected, lambda arrays, expected: record)


class Once:
    """Decodes a teacher that several messages of an exchange hold in one record once for all of them."""

    def __init__(self) -> None:
        self._held: tuple[Mapping[str, Array], Expected, Mapping[str, NDArray[Any]]] | None = None

    def decode(self, record: Mapping[str, Array], expected: Expected) -> Mapping[str, NDArray[Any]]:
        """Do as :func:`~fedkt.knowledge.codec.decode`."""
        if self._held is None or self._held[0] is not record or self._held[1] != expected:
            self._held = record, expected, decode(record, expected)
        return self._held[2]


def _teacher(world: World) -> Shapes:
    def shapes(dims: Dims, with_rows: bool) -> Expected:
        return world.behaviour.teacher(dims, world.settings, with_rows=with_rows)

    return shapes


def at_home(place: Place) -> tuple[World, StateStore]:
    """Return the world of a place and the states on its disk, in any process that can see them."""
    return world_at(place), DiskStore(Path(place.states))


def prepare() -> None:
    """Import what clients of a process will need, but for torch's compiler, and take a first step."""
    without_compiler()
    warm_up()


def resident_app(states: Path, plan: Plan, share: float, world: World) -> ClientApp:
    """Build the app of one of several processes."""
    return ResidentApp(world, states, plan, share=share)


# What is told of failures -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Failure:
    """``told``: a sentence that quotes no data; ``reason``: one word; ``kept``: all that there is to say."""

    reason: str
    told: str
    kept: str


def failure(world: World, client: str, round_: int, stage: str, error: BaseException) -> Failure:
    """Describe an error that ended a client's work on a message; call while it is handled."""
    where = f"client {client}, round {round_}, stage {stage}"
    reason, told = type(error).__name__, f"{where}: {type(error).__name__}"
    line = own_code(error)
    text = f"{where}: {type(error).__name__}: {error}" + (f" ({line})" if line else "")
    if isinstance(error, Diverged):
        reason, told = "diverged", str(error)
        text = told
    elif isinstance(error, Exception) and is_out_of_memory(error):
        told = f"client {client} ran out of memory in round {round_}, stage {stage}; "
        reason, told = "memory", f"{told}lower clients.local.batch_size or take a smaller model."
    elif isinstance(error, Rejected):
        reason, told = error.reason, f"{where}: {error.reason}"
        if stage == OPENING:
            told = f"{where}: {error}"
        elif stage == SENDING and reason in ("finite", "range"):
            told = text = f"{_unsendable(world, client, round_, error)}."
    return Failure(reason, told, f"{text}\n{traceback.format_exc()}")


def failed(binding: Binding, client: str, what: Failure) -> Reply:
    """Return the reply that tells of a failure."""
    return Reply(binding, client, "failed", what.reason[:MAX_NAME], what.told[:MAX_TEXT])


def _unsendable(world: World, client: str, round_: int, error: Rejected) -> str:
    out = (
        "are not finite"
        if error.reason == "finite"
        else f"leave their range, at most [-{LIMIT:g}, {LIMIT:g}]"
    )
    local = world.scenario.clients.local.lr
    remedy = remedies.lower(local, "train", world.scenario, world.config)
    remedy += remedies.scale(world.scenario, world.federation.input.kind)
    return f"the values that client {client} would send in round {round_} {out}; {remedy}"
