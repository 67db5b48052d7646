"""What the coordinator sends to everybody: the scenario, and what binds a run to it. Nothing else is packed.

A run's id is the SHA-256 of a random nonce and the scenario. So each site checks for itself that a message
belongs to this scenario, and a coordinator that died continues its run with a new Flower run of the *same*
invitation: the id is the same only if nothing was changed. A continuation needs no further permission, and a
changed scenario cannot pass for one.
"""

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from fedkt import scenario as scenarios
from fedkt.deploy.wire.refusal import Refused
from fedkt.errors import InputError
from fedkt.scenario import Scenario

FORMAT = 1
MAX_BYTES = 1 << 20
"""No scenario is near this long."""


@dataclass(frozen=True)
class Invitation:
    """``scenario``: resolved, as plain values; ``nonce``: 32 hexadecimal digits; ``sites``: how many are
    waited for before the first round (None: those who come in time); ``wait_s``: for how long; ``transfer``:
    hash of the transfer set that all must hold (None: that of most); ``numpy``: the coordinator's version,
    where rows are made, empty elsewhere."""

    scenario: Mapping[str, Any]
    nonce: str
    sites: int | None = None
    wait_s: float = 60.0
    transfer: str | None = None
    numpy: str = ""

    @classmethod
    def to(
        cls,
        scenario: Scenario,
        *,
        sites: int | None,
        wait_s: float,
        transfer: str | None,
        nonce: str | None = None,
    ) -> "Invitation":
        """Invite to a scenario; ``nonce``: that of a run that is continued."""
        plain = scenarios.to_dict(scenario)
        del plain["engine"]  # where a simulation would run
        said = scenario.data.transfer
        numpy = version("numpy") if said is not None and said.made else ""
        return cls(plain, nonce or secrets.token_hex(16), sites, wait_s, transfer, numpy)

    @property
    def run(self) -> str:
        """The run's id: 32 hexadecimal digits."""
        text = json.dumps([FORMAT, self.nonce, self.scenario], sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def text(self) -> str:
        """Return the invitation as JSON."""
        told = {key: value for key, value in asdict(self).items() if key != "numpy" or value}
        return json.dumps({"format": FORMAT, **told}, indent=1)

    @classmethod
    def read(cls, text: str) -> "Invitation":
        """Read :meth:`text`. Raises Refused, reason ``scenario``."""
        try:
            found = json.loads(text)
            if found.pop("format") != FORMAT:
                raise Refused(
                    "scenario", "the invitation has another format than this fedkt's; upgrade the older one."
                )
            invitation = cls(**found)
            if len(bytes.fromhex(invitation.nonce)) != 16 or not (
                isinstance(invitation.scenario, dict) and isinstance(invitation.numpy, str)
            ):
                raise ValueError
        except (ValueError, TypeError, KeyError, AttributeError):
            raise Refused("scenario", "the invitation cannot be read; it must come from fedkt.") from None
        return invitation

    def checked(self) -> Scenario:
        """Return the scenario. Raises Refused where this version of fedkt does not know it."""
        try:
            return scenarios.from_dict(self.scenario)
        except InputError as error:
            raise Refused("scenario", " ".join(error.problems)) from error
