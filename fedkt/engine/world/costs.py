"""What a run costs a party's privacy, from public numbers alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fedkt.client.behaviour import Fit
from fedkt.knowledge.codec import Expected
from fedkt.privacy.accounting import Event
from fedkt.privacy.dpsgd import sampling
from fedkt.privacy.modes import noise_of
from fedkt.privacy.protection import Mode


@dataclass(frozen=True)
class Costs:
    """What one party's data (a client's, or all clients' at a trusted server) pays in a run.

    ``first``: once, before the first round; ``each``: in every round; ``noise``: the mode's noise.
    """

    first: tuple[Event, ...]
    each: tuple[Event, ...]
    noise: float

    def after(self, rounds: int) -> list[Event]:
        """Return everything that is paid in this many rounds."""
        return [*self.first, *(e for e in self.each for _ in range(rounds))]


Phases = tuple[Sequence[Fit], Sequence[Fit]]


def costs(mode: Mode, rounds: int, expected: Expected, phases: Callable[[], Phases]) -> Costs:
    """Return what a party pays in this many rounds, with the noise of a target epsilon computed.

    ``expected``: the arrays of a full contribution; ``phases`` returns the phases on private rows, those
    before the first round and those of each. Raises InputError where no noise reaches the target.
    """
    noise = noise_of(mode, rounds, lambda size: _costs(mode, expected, phases, size).after(rounds))
    return _costs(mode, expected, phases, noise)


def _costs(mode: Mode, expected: Expected, phases: Callable[[], Phases], noise: float) -> Costs:
    if mode.at_server:
        return Costs((), tuple(mode.release(expected, noise)), noise)
    training = mode.training_noise(noise)
    first, each = phases() if training is not None else ([], [])
    return Costs(
        (*(training_event(phase, training) for phase in first), *mode.once(expected)),
        (*(training_event(phase, training) for phase in each), *mode.release(expected, noise)),
        noise,
    )


def training_event(phase: Fit, noise: float | None) -> Event:
    """Return what one private phase costs."""
    rate, count = sampling(phase.counted, phase.steps)
    return Event("gauss", "record", noise or 0.0, rate or 1.0, count)
