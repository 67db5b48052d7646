"""The one place that touches Flower's internals (tested with flwr 1.41).

Outside Flower's runtime a ``Message`` takes its run and node from ``TaskIdentity``, and nobody gives it
the message id that replies refer to.
"""

import os
from collections.abc import Iterable
from typing import Any
from uuid import uuid4

# Flower reads this when it is imported.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

from flwr.app import Message
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

SERVER_NODE = 1
FIRST_NODE = 100


def become_server() -> Run:
    """Give this process an identity, so that it can make messages; return the run that it has."""
    TaskIdentity.run_id = 1
    TaskIdentity.task_id = 1
    TaskIdentity.node_id = SERVER_NODE
    return Run.create_empty(run_id=1)


def number(messages: Iterable[Message]) -> list[Message]:
    """Give each message the id that its reply will refer to."""
    numbered = list(messages)
    for message in numbered:
        fields: dict[str, Any] = message.metadata.__dict__
        fields["_message_id"] = uuid4().hex
    return numbered
