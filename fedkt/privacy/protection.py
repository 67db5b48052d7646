"""What a privacy mode is: whom it protects, what a round costs, and what is done to what is sent.

A mode knows settings, shapes and arrays; who calls it when, and the ledger, are the engine's and the
strategy's part. The modes themselves: :mod:`fedkt.privacy.modes`.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from fedkt.knowledge.codec import Expected, Spec
from fedkt.privacy import mechanisms
from fedkt.privacy.accounting import Change, Event, Unit

if TYPE_CHECKING:
    from fedkt.client.behaviour import Client
    from fedkt.scenario.about_privacy import Privacy

Arrays = Mapping[str, NDArray[Any]]


class Method(Protocol):
    """What a mode asks of a strategy; :class:`fedkt.strategy.Strategy` says what each means."""

    shares: ClassVar[tuple[Any, ...]]
    fuses_mean: ClassVar[bool]
    takes_votes: ClassVar[bool]


class Mode:
    """Base: what every mode says of itself; ``noise`` is the one number that a target epsilon decides."""

    unit: ClassVar[Unit]
    theorem: ClassVar[str]
    """What the bound is proven by: mechanism, sensitivity, source."""
    at_server: ClassVar[bool] = False
    """Whether a trusted server adds the noise and keeps the ledger; else each client does."""
    form: ClassVar[str | None] = None
    """The form in which predictions are sent, where the mode needs one of its own."""
    growing: ClassVar[bool] = False
    """Whether a larger ``noise`` setting means *less* privacy (an epsilon, not a deviation)."""

    def __init__(self, settings: "Privacy") -> None:
        self.settings = settings

    @property
    def change(self) -> Change:
        """What happens to one unit in the claim."""
        raise NotImplementedError

    @property
    def public(self) -> str:
        """The numbers about the data that count as public."""
        raise NotImplementedError

    @property
    def noise(self) -> float | None:
        """The scenario's own noise; None where it follows from ``target_epsilon``."""
        return self.settings.noise_multiplier

    def misfit(
        self, strategy: type[Method], client: "type[Client]", settings: Mapping[str, Any]
    ) -> str | None:
        """Return why this mode cannot protect a strategy, as the end of a sentence; None where it can.

        ``settings``: those of the client half.
        """
        return None

    def training_noise(self, noise: float) -> float | None:
        """Return the noise multiplier of the clients' training, None where it is not private."""
        return None

    def release(self, expected: Expected, noise: float) -> list[Event]:
        """Return what one round's release costs, from the shapes of what is sent."""
        return []

    def once(self, expected: Expected) -> list[Event]:
        """Return what is paid once a run for what such messages hold beside each round's release."""
        return []

    def privatise(self, arrays: Arrays, expected: Expected, noise: float) -> Arrays:
        """Return what may be sent in place of the arrays."""
        return arrays


# Shapes -------------------------------------------------------------------------------------------------


def float_arrays(expected: Expected) -> list[str]:
    """Return the names of the float arrays of a message, in order."""
    return sorted(name for name, spec in expected.items() if np.dtype(spec.dtype).kind == "f")


def rows_of(expected: Expected) -> int:
    """Return how many rows the float arrays of a message have together; one without dimensions counts one."""
    return sum(math.prod(expected[name].shape[:-1]) for name in float_arrays(expected))


def fitting(values: Any, spec: Spec) -> NDArray[Any]:
    """Return values [rows, d] as the specification asks: shape, range, rows that sum to one, length."""
    held = np.asarray(values, np.float64)
    if spec.simplex:
        held = mechanisms.onto_simplex(held.reshape(-1, spec.shape[-1]))
    held = np.clip(held, spec.low, spec.high)
    if spec.norm is not None:
        held = mechanisms.clip_rows(held.reshape(1, -1), spec.norm)
    return held.reshape(spec.shape).astype(spec.dtype)
