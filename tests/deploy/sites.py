"""Sites without processes: the client app over a grid in this process, for the tests of the deployment."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message, RecordDict, UserConfig

from fedkt import scenario as scenarios
from fedkt.deploy.coordinator.events import listen
from fedkt.deploy.site.setup import init_from_scenario
from fedkt.deploy.site.site_app import client_app
from fedkt.deploy.site.site_file import Site
from fedkt.deploy.wire.invitation import Invitation
from fedkt.engine.runtimes.flwr_internals import FIRST_NODE, LocalGrid, number

SMALL = {
    "name": "small",
    "data": {
        "partition": {"kind": "dirichlet", "alpha": 5, "clients": 3, "samples_per_client": 40},
        "transfer": {"from": "train", "size": 50},
        "validation": 0.1,
    },
    "clients": {"models": [{"name": "mlp", "width": 16}], "local": {"epochs": 1}, "distill": {"epochs": 1}},
    "strategy": {"name": "knfu"},
    "rounds": 2,
    "participation": {"quorum": 2},
    "engine": {"kind": "inline"},
}
ADDRESS = "127.0.0.1:1"


class SitesGrid(LocalGrid):
    """Sites in this process: node k runs the client app with the file of the k-th site.

    ``away``: nodes that are not there; ``silent``: that take messages and never answer.
    """

    def __init__(self, invitation: Invitation, sites: Iterable[Path]) -> None:
        super().__init__()
        self.app = client_app(invitation.text())
        self.nodes = {FIRST_NODE + k: path for k, path in enumerate(sites)}
        self.away: set[int] = set()
        self.silent: set[int] = set()
        self.waiting: dict[str, Message] = {}
        self.seen: list[Message] = []

    def get_node_ids(self) -> Iterable[int]:
        return [node for node in self.nodes if node not in self.away]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        numbered = number(messages)
        self.seen += numbered
        self.waiting |= {message.metadata.message_id: message for message in numbered}
        return [message.metadata.message_id for message in numbered]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        found = []
        for key in list(message_ids):
            message = self.waiting.get(key)
            if message is not None and message.metadata.dst_node_id not in self.silent:
                found.append(self.visit(self.waiting.pop(key)))
        return number(found)

    def visit(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        config = UserConfig({"site": str(self.nodes[node] / "site.yaml")})
        return self.app(message, Context(1, node, config, RecordDict(), UserConfig()))

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        return self.pull_messages(list(self.push_messages(messages)))


def invite(settings: dict[str, Any] = SMALL, **more: Any) -> Invitation:
    wanted: dict[str, Any] = {"sites": 3, "wait_s": 1.0, "transfer": None}
    return Invitation.to(scenarios.from_dict(settings), **wanted | more)


def sites_of(out: Path, settings: dict[str, Any] = SMALL) -> list[Path]:
    made = init_from_scenario(scenarios.from_dict(settings), out, None, ADDRESS, None)
    return [site.folder for site in made]


def edit(site: Path, **changes: Any) -> None:
    """Change top-level settings of a site's file; a mapping is merged."""
    plain = Site.load(site).file.model_dump()
    for key, value in changes.items():
        plain[key] = plain[key] | value if isinstance(value, dict) else value
    (site / "site.yaml").write_text(json.dumps(plain))


def events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [event for event in listen([capsys.readouterr().out]) if isinstance(event, dict)]
