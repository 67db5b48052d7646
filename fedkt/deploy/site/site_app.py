"""The Flower ``ClientApp`` at a site: the site's policy and disk around the client that every engine runs.

Flower starts a process for each message. ``node_config`` says where the site's file is. Heavy packages are
imported where they are needed, so that a refusal is quick.
"""

import os
import time
import traceback
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedkt.deploy.site import desk
from fedkt.deploy.site.policy import made_objection, objections, size_objection, transfer_objection
from fedkt.deploy.site.site_file import Site
from fedkt.deploy.wire.hello import Facts, here_i_am, not_me
from fedkt.deploy.wire.invitation import Invitation
from fedkt.deploy.wire.refusal import Refused
from fedkt.errors import InputError
from fedkt.files import write_atomic
from fedkt.knowledge.protocol import Reply, binding_of, kept_of, status_of
from fedkt.uncompiled import without_compiler

if TYPE_CHECKING:
    from fedkt.engine.world.world import World

_begun = 0.0


def begin() -> None:
    """Note that a process that was forked begins now; one that was started began with the interpreter."""
    global _begun
    _begun = time.monotonic()


def client_app(invitation: str) -> ClientApp:
    """Build the app of a site that got this invitation (its text)."""
    without_compiler()
    app = ClientApp()
    app.query()(partial(_handle, invitation, "hello", _introduce))
    app.train()(partial(_handle, invitation, "train", _answer))
    app.evaluate()(partial(_handle, invitation, "evaluate", _answer))
    return app


Step = Callable[["Visit"], RecordDict]


class Visit:
    """One message at a site: everything that a step needs, loaded when it is asked for."""

    def __init__(self, site: Site, invitation: Invitation, stage: str, message: Message) -> None:
        self.site = site
        self.stage = stage
        self.message = message
        self.invitation = invitation
        self.desk = desk.Desk(site.state, invitation.run)

    def world(self) -> "World":
        """Check the scenario against the policy, then build the site's world. Raises Refused."""
        from fedkt.data.identity import data_hashes
        from fedkt.deploy.site.inspection import unfit
        from fedkt.engine.checks.method_checks import checked_method
        from fedkt.engine.world.private import privacy_problems
        from fedkt.engine.world.world import World

        policy, name = self.site.file.policy, self.site.file.name
        scenario = self.invitation.checked()
        for objection in objections(policy, scenario):
            raise objection
        try:
            checked_method(scenario)
        except InputError as error:
            raise Refused("scenario", " ".join(error.problems)) from error
        world = World(self.site.adapted(scenario), self.site.federation(scenario))
        try:
            dims = world.dims(name).about(0)
        except InputError as error:
            raise Refused("model", " ".join(error.problems)) from error
        if self.stage == "hello" and (why := unfit(world, name)):
            raise Refused("model", " ".join(why))
        for found in (
            transfer_objection(policy, world.transfer_hash, self.invitation.transfer),
            size_objection(policy, world.behaviour.contribution(dims, world.settings)),
        ):
            if found is not None:
                raise found
        if world.strategy.needs_transfer and not world.transfer_hash:
            words = f"strategy '{scenario.strategy.name}' needs a transfer set; the site has none."
            raise Refused("transfer", words)
        self.desk.same_data(data_hashes(world.federation))
        if self.stage == "hello" and (problems := privacy_problems(world)):
            raise Refused("privacy", " ".join(problems))
        return world


def _introduce(visit: Visit) -> RecordDict:
    name = visit.site.file.name
    return here_i_am(name, Facts.of(visit.world(), name))


def _answer(visit: Visit) -> RecordDict:
    """Train or evaluate as every engine does; repeat an answer that was given."""
    from fedkt.deploy.wire.flwr_control import packed, unpacked
    from fedkt.engine.clients.app import make_app
    from fedkt.engine.runtimes.flwr_internals import node_context

    content = visit.message.content
    binding, kept = binding_of(content), kept_of(content)
    if binding.run != visit.invitation.run:
        raise Refused("run", "the message belongs to another run than the invitation that came with it.")
    if visit.stage == "train":
        visit.desk.open_round(binding.round, kept, visit.site.file.policy.rounds_per_day)
    question = desk.digest(content)
    known = visit.desk.answered(visit.stage, binding.round, question)
    if known is not None:
        return unpacked(known)
    world = visit.world()
    if world.federation.fresh:
        held, versions = world.transfer_hash_in(binding.round), (version("numpy"), visit.invitation.numpy)
        no = made_objection(binding.round, held, binding.transfer, versions)
        if no is not None:
            raise no
    app = make_app(lambda: (world, visit.desk.store))
    reply = app(visit.message, node_context(0, 1)).content
    if status_of(reply)[0] == "accepted":
        visit.desk.keep_answer(visit.stage, binding.round, question, packed(reply), kept)
    return reply


def _handle(text: str, stage: str, step: Step, message: Message, context: Context) -> Message:
    begun, name, state = time.monotonic(), "", None
    status, reason, content, run = "accepted", "", RecordDict(), ""
    try:
        site = Site.load(Path(str(context.node_config.get("site", "site.yaml"))))
        name, state = site.file.name, site.state
        invitation = Invitation.read(text)
        run = invitation.run
        with desk.at_desk(state):
            content = step(Visit(site, invitation, stage, message))
        if stage != "hello":
            status, reason = status_of(content)
    except Exception as error:
        refusal = error if isinstance(error, Refused) else Refused("site", _UNTOLD)
        status, reason = "declined", refusal.reason
        if state is not None and not isinstance(error, Refused):
            words = "\n".join(error.problems) if isinstance(error, InputError) else traceback.format_exc()
            write_atomic(state / "failure.txt", words.encode())
        content = not_me(name, refusal) if stage == "hello" else _declined(message, name, refusal)
    if state is not None:
        entry: dict[str, str | float] = {
            "run": run,
            "stage": stage,
            "round": message.metadata.group_id,
            "status": status,
        }
        if reason:
            entry["reason"] = reason
        entry["seconds"] = round(time.monotonic() - begun, 3)
        entry["process_s"] = round(_process_age(), 3)
        desk.log(state, entry)
    return Message(content, reply_to=message)


_UNTOLD = "the site's file, data or disk are not in order; failure.txt in its state folder says why."


def _declined(message: Message, name: str, refusal: Refused) -> RecordDict:
    binding = binding_of(message.content)
    return Reply(binding, name, "declined", refusal.reason, refusal.detail[:500]).pack({})


def _process_age() -> float:
    """Return the seconds since this process began, 0 where the system does not tell."""
    if _begun:
        return time.monotonic() - _begun
    try:
        with open("/proc/self/stat") as stat, open("/proc/uptime") as uptime:
            ticks = int(stat.read().rpartition(")")[2].split()[19])
            return float(uptime.read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):  # not Linux
        return 0.0
