"""The Flower ``ClientApp`` of every engine: three handlers around :class:`~fedkt.engine.party.Party`.

Simulated nodes are told apart by their ``partition-id``. The handlers live in this importable module
and hold no data, so that Ray pickles them by name and each process keeps its world between messages.
"""

import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedkt.engine.party import Party
from fedkt.engine.world import Place, World, world_at
from fedkt.errors import RunError
from fedkt.knowledge import Rejected
from fedkt.protocol import Binding, Reply, Request, i_am
from fedkt.state import DiskStore, StateStore
from fedkt.training import one_thread


class Home(Protocol):
    """Where a process finds what its clients need; picklable, and cheap to call again."""

    def __call__(self) -> tuple[World, StateStore]: ...


def make_app(home: Home, *, raise_errors: bool = False) -> ClientApp:
    """Build the app. With ``raise_errors`` an exception ends the run, else it costs the client's reply."""
    app = ClientApp()
    app.query()(partial(_introduce, home))
    app.train()(partial(_handle, home, raise_errors, Party.train))
    app.evaluate()(partial(_handle, home, raise_errors, Party.evaluate))
    return app


def client_of(world: World, context: Context) -> str:
    """Return the name of the client that this node plays."""
    return list(world.shards)[int(context.node_config["partition-id"])]


def _introduce(home: Home, message: Message, context: Context) -> Message:
    world, _ = home()
    return i_am(client_of(world, context), message)


def _handle(
    home: Home,
    raise_errors: bool,
    step: Callable[[Party, Request, Callable[[str], None]], Reply],
    message: Message,
    context: Context,
) -> Message:
    world, store = home()
    client = client_of(world, context)
    at = ["open"]
    binding = Binding("", 0, world.transfer_hash)
    expected = {}
    try:
        request = Request.unpack(message.content, world.transfer_hash, world.dims(client), _teacher(world))
        binding = request.binding
        with one_thread():
            party = Party(world, store, client)
            reply = step(party, request, at.append)
            expected = party.contribution(request)
        content = reply.pack(expected)
    except Exception as error:
        where = f"client {client}, round {binding.round}, stage {at[-1]}"
        if raise_errors:
            raise RunError(f"{where}: {type(error).__name__}: {error}") from error
        reason = error.reason if isinstance(error, Rejected) else type(error).__name__
        detail = f"{where}: {error}\n{traceback.format_exc()}"
        content = Reply(binding, client, "failed", reason, detail).pack({})
    return Message(content, reply_to=message)


def _teacher(world: World):  # type: ignore[no-untyped-def]
    return lambda dims, with_rows: world.behaviour.teacher(dims, world.settings, with_rows=with_rows)


def at_home(place: Place) -> tuple[World, StateStore]:
    """Return the world of a place and the states on its disk, in any process that can see them."""
    return world_at(place), DiskStore(Path(place.states))
