"""A site's no: a reason in one word, so that it can be counted, and a sentence."""

from typing import Literal

from fedkt.errors import FedktError

Reason = Literal[
    "site",  # the site's own file, data or disk is not in order
    "scenario",  # the scenario is none that this fedkt understands
    "run",  # the message belongs to another run than the invitation
    "strategy",
    "classes",  # what the site never learns cannot be taken out of what it would be taught
    "kind",
    "privacy",
    "budget",
    "participants",
    "transfer",
    "data",  # the site's rows are not those that the run began with
    "rounds",
    "size",
    "replayed",
    "model",
    "protocol",  # it speaks another version of the messages
    "key",  # nobody knows who is calling
    "time",  # a call of the future, or of long ago
    "over",  # all visits of a board were made
    "message",  # what came is none that was asked for
    "roster",  # the run began without this site, or another node plays it already
]


class Refused(FedktError):
    """A site does not do what it is asked. ``detail`` quotes no data and no path of the site."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Reason = reason
        self.detail = detail
