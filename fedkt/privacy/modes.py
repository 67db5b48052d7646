"""The privacy modes: whom each protects, what a round costs, and what is done to what is sent.

========== ======= ========================= ========================================================
mode       unit    noise is added            fits
========== ======= ========================= ========================================================
dpsgd      record  in the client's training  knowledge that does not touch private rows again
proto_...  record  on class sums and counts  mean features or mean predictions per class
logit_...  client  on what the client sends  any knowledge made of bounded rows
vote_rr    client  on each vote              predictions on transfer rows, as votes
central_.. client  on the mean, at a server  strategies whose teacher follows from the clients' mean
vote_gn..  client  on vote counts, there     the same, with votes
========== ======= ========================= ========================================================
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedkt.errors import InputError
from fedkt.knowledge.codec import Expected, Spec
from fedkt.knowledge.kinds import ClassLogits, Knowledge, Prototypes
from fedkt.privacy import mechanisms
from fedkt.privacy.accounting import Change, Event, calibrate
from fedkt.privacy.protection import Arrays, Method, Mode, fitting, float_arrays, rows_of

if TYPE_CHECKING:
    from fedkt.client.behaviour import Client
    from fedkt.scenario.about_privacy import Privacy


CENSUS = "census"
"""The array of counts of private rows that the row policy of that name asks for."""


class Dpsgd(Mode):
    """Record level: the model is trained by DP-SGD; what follows from it alone is free."""

    unit = "record"
    theorem = (
        "Poisson-subsampled Gaussian, a row's gradient clipped to C: sensitivity C (Abadi et al. 2016, "
        "arXiv 1607.00133; dominating pairs: Zhu et al. 2022, arXiv 2106.08567)"
    )

    @property
    def change(self) -> Change:
        """Rate, steps and divisor follow from a number of rows: the client's, or a public one."""
        return _change_of_a_record(self.settings)

    @property
    def public(self) -> str:
        """That number."""
        return _public_rows(self.settings)

    def misfit(
        self, strategy: type[Method], client: "type[Client]", settings: Mapping[str, Any]
    ) -> str | None:
        """Refuse knowledge that is computed from private rows after training, but for counts."""
        if client.reads_private_rows({key: value for key, value in settings.items() if key != CENSUS}):
            return (
                "what its clients send is computed from private rows once more, which private training does "
                "not pay for; use proto_gauss with 'provenance: dp_trained' where it sends means per class, "
                "or else send predictions alone"
            )
        return None

    def training_noise(self, noise: float) -> float | None:
        """The mode's noise is that of the training."""
        return noise

    def once(self, expected: Expected) -> list[Event]:
        """A census: one row changes one count by one, zeroed out, added or removed."""
        if CENSUS not in expected:
            return []
        return [Event("gauss", "record", self.settings.census_noise, discrete=True)]

    def counted(self, counts: Any) -> NDArray[Any]:
        """Return counts [groups] with noise, as they may be sent again and again."""
        steps, noise = np.asarray(counts, np.int64), self.settings.census_noise
        noisy = mechanisms.gaussian(steps, 1.0, mechanisms.of_counts("add/remove"), noise)
        return np.maximum(noisy, 0).astype(np.int32)

    def privatise(self, arrays: Arrays, expected: Expected, noise: float) -> Arrays:
        """Weigh clients alike: how many examples stand behind weights is not said."""
        return {**arrays, "examples": np.ones((), np.int32)} if "examples" in arrays else arrays


class ProtoGauss(Mode):
    """Record level: sums of clipped features per class, and counts, with Gaussian noise, in one release."""

    unit = "record"
    theorem = (
        "discrete Gaussian on sums per class and counts together: sensitivity √2·C (Canonne et al. 2020, "
        "arXiv 2004.00010); with dp_trained composed with the training's Poisson-subsampled Gaussian"
    )

    @property
    def change(self) -> Change:
        """Sums and counts do not ask how many rows there are; private training does."""
        if self.settings.provenance == "public":
            return "added or removed"
        return _change_of_a_record(self.settings)

    @property
    def public(self) -> str:
        """The training's number of rows."""
        if self.settings.provenance == "public":
            return "no number about the data"
        return _public_rows(self.settings)

    def misfit(
        self, strategy: type[Method], client: "type[Client]", settings: Mapping[str, Any]
    ) -> str | None:
        """Accept prototypes and mean predictions per class."""
        if client.sends not in (Prototypes, ClassLogits):
            return (
                f"it sends {client.sends.kind if hasattr(client.sends, 'kind') else 'other knowledge'}, not "
                "means per class; use dpsgd"
            )
        return None

    def training_noise(self, noise: float) -> float | None:
        """Features that were trained on the same rows are trained privately."""
        return self.settings.training_noise_multiplier

    def release(self, expected: Expected, noise: float) -> list[Event]:
        """One Gaussian event: sums and counts have one noise."""
        return [Event("gauss", "record", noise, discrete=True)]

    def class_means(
        self,
        kind: type[Knowledge],
        features: Any,
        probabilities: Any,
        labels: Any,
        classes: int,
        noise: float,
    ) -> Arrays:
        """Return noisy means per class and noisy counts, of all classes, from private rows.

        ``features`` [n, width] or ``probabilities`` [n, classes], whichever the knowledge is made of.
        """
        rows, clip = (probabilities, 1.0) if kind is ClassLogits else (features, self.settings.clip)
        sums, counts = mechanisms.noisy_class_sums(rows, labels, classes, clip, noise)
        means = sums / np.maximum(counts, 1.0)[:, None]
        # Back to where true means lie: no mean of clipped rows is longer than the clip.
        bounded = mechanisms.onto_simplex(means) if kind is ClassLogits else mechanisms.clip_rows(means, clip)
        return {
            "values": bounded.astype(np.float32),
            "counts": np.maximum(np.rint(counts), 0).astype(np.int32),
        }


class LogitGauss(Mode):
    """Client level: Gaussian noise on all rows that a client sends, each clipped to C."""

    unit = "client"
    theorem = (
        "discrete Gaussian on all rows that are sent, each within C: sensitivity 2C√rows (Canonne et al. "
        "2020, arXiv 2004.00010)"
    )

    @property
    def change(self) -> Change:
        """Nothing that is sent depends on the client's data but through the noise."""
        return "replaced by any other"

    @property
    def public(self) -> str:
        """Shapes follow from the scenario."""
        return "no number about the data"

    def misfit(
        self, strategy: type[Method], client: "type[Client]", settings: Mapping[str, Any]
    ) -> str | None:
        """Refuse weights, whose norm no clip of this kind leaves useful."""
        if "weights" in strategy.shares:
            return "it sends weights; use dpsgd, after which weights are free"
        return None

    def release(self, expected: Expected, noise: float) -> list[Event]:
        """One Gaussian event for all rows together."""
        return [Event("gauss", "client", noise, discrete=True)] if rows_of(expected) else []

    def privatise(self, arrays: Arrays, expected: Expected, noise: float) -> Arrays:
        """Noise all rows of all float arrays together; whole numbers, such as counts, become ones."""
        clip, names = self.settings.clip, float_arrays(expected)
        width = clip * mechanisms.GRID
        steps = [mechanisms.to_grid(mechanisms.clip_rows(_rows(arrays[n]), clip), width) for n in names]
        sensitivity = mechanisms.of_rows(clip, sum(len(s) for s in steps))
        found: dict[str, NDArray[Any]] = {
            name: np.ones(spec.shape, spec.dtype) for name, spec in expected.items() if name not in names
        }
        for name, part in zip(names, steps, strict=True):
            # Independent noise per array, each for the whole sensitivity: one release of a longer vector.
            noisy = mechanisms.gaussian(part, width, sensitivity, noise)
            found[name] = fitting(noisy, expected[name])
        return found

    def signal_to_noise(self, expected: Expected, noise: float, clients: int) -> float:
        """Return the expected ratio of a row's length (at most C) to its noise, averaged over clients.

        √clients / (2 σ √(rows · width)): a row of norm C against noise of norm σ · 2C√rows · √width, of the
        widest array of rows. One of numbers alone, such as a density per transfer row, is a single row.
        """
        shapes = [expected[name].shape for name in float_arrays(expected)]
        width = max(shape[-1] for shape in [s for s in shapes if len(s) > 1] or shapes)
        return math.sqrt(clients) / (2 * noise * math.sqrt(rows_of(expected) * width))


class VoteRR(Mode):
    """Client level, local: each transfer row's vote is kept or replaced at random."""

    unit = "client"
    theorem = "randomised response per vote, pure e^ε₀/(e^ε₀+K-1) (Warner 1965), composed"
    form = "votes"
    growing = True

    @property
    def noise(self) -> float | None:
        """Epsilon of one vote."""
        return self.settings.epsilon_per_vote

    @property
    def change(self) -> Change:
        """Nothing that is sent depends on the client's data but through the noise."""
        return "replaced by any other"

    @property
    def public(self) -> str:
        """Shapes follow from the scenario."""
        return "no number about the data"

    def misfit(
        self, strategy: type[Method], client: "type[Client]", settings: Mapping[str, Any]
    ) -> str | None:
        """Votes stand for predictions on transfer rows."""
        if not strategy.takes_votes:
            return "it asks how sure clients are, which votes do not say; use dpsgd or logit_gauss"
        return None if client.can_vote else "its knowledge cannot be given as votes; use dpsgd"

    def release(self, expected: Expected, noise: float) -> list[Event]:
        """One randomised answer per row."""
        spec = expected["labels"]
        return [Event("rr", "client", noise, count=spec.shape[0], classes=int(spec.high) + 1)]

    def privatise(self, arrays: Arrays, expected: Expected, noise: float) -> Arrays:
        """Answer at random around each vote."""
        classes = int(expected["labels"].high) + 1
        answers = mechanisms.randomised_response(arrays["labels"], classes, noise)
        return {"labels": answers.astype(np.int16)}


class CentralGauss(Mode):
    """Client level, at a trusted server: the mean of clipped contributions, with Gaussian noise."""

    unit = "client"
    theorem = (
        "discrete Gaussian on the sum of contributions within C, over a fixed number of clients: "
        "sensitivity C (Canonne et al. 2020, arXiv 2004.00010)"
    )
    at_server = True

    @property
    def change(self) -> Change:
        """The divisor is the number of clients asked: a client that is taken out leaves an empty place."""
        return "zeroed out"

    @property
    def public(self) -> str:
        """That number."""
        return "the number of clients asked, which is fixed"

    def misfit(
        self, strategy: type[Method], client: "type[Client]", settings: Mapping[str, Any]
    ) -> str | None:
        """The teacher must follow from the mean of the contributions and nothing else of them."""
        if not strategy.fuses_mean:
            return "its teachers depend on more than the clients' mean; use dpsgd, or fedmd or dsfl"
        return None

    def release(self, expected: Expected, noise: float) -> list[Event]:
        """One Gaussian event."""
        return [Event("gauss", "client", noise, discrete=True)]

    def mean(self, values: Any, clients: int, spec: Spec, noise: float) -> NDArray[Any]:
        """Return the noisy mean of contributions [n, ...] over a public number of clients, as one of them."""
        return fitting(mechanisms.noisy_client_mean(values, self.settings.clip, clients, noise), spec)


class VoteGNMax(Mode):
    """Client level, at a trusted server: the noisy winner of the clients' votes on each row (PATE)."""

    unit = "client"
    theorem = (
        "discrete Gaussian on vote counts: sensitivity √2 (GNMax, Papernot et al. 2018, arXiv 1802.08908; "
        "Canonne et al. 2020, arXiv 2004.00010)"
    )
    at_server = True
    form = "votes"

    @property
    def noise(self) -> float | None:
        """Standard deviation of the noise on votes."""
        return self.settings.vote_noise

    @property
    def change(self) -> Change:
        """A client's vote goes from one class to another."""
        return "replaced by any other"

    @property
    def public(self) -> str:
        """Of counts alone, how many there are tells nothing more."""
        return "the number of clients asked"

    def misfit(
        self, strategy: type[Method], client: "type[Client]", settings: Mapping[str, Any]
    ) -> str | None:
        """Votes, and a teacher that follows from the winners alone."""
        if not client.can_vote:
            return "its knowledge cannot be given as votes; use dpsgd"
        if not strategy.fuses_mean:
            return "its teachers depend on more than the winning votes; use vote_rr, or fedmd or dsfl"
        return None

    def release(self, expected: Expected, noise: float) -> list[Event]:
        """A winner per row; with a threshold also a test per row, and as if every row were answered."""
        rows = expected["labels"].shape[0]
        winner = Event("gauss", "client", noise / math.sqrt(2), count=rows, discrete=True)
        if self.settings.threshold_noise is None:
            return [winner]
        return [Event("gauss", "client", self.settings.threshold_noise, count=rows, discrete=True), winner]

    def winners(self, labels: Any, classes: int, noise: float) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return which rows are answered [m] and their classes [m], from votes [clients, rows]."""
        counts = np.stack([np.bincount(row, minlength=classes) for row in np.asarray(labels).T])
        answered = np.arange(len(counts))
        if self.settings.threshold is not None and self.settings.threshold_noise is not None:
            answered = mechanisms.confident_rows(
                counts, self.settings.threshold, self.settings.threshold_noise
            )
        if not len(answered):
            return answered, answered
        return answered, mechanisms.noisy_winner(counts[answered], noise)


MODES: dict[str, type[Mode]] = {
    "dpsgd": Dpsgd,
    "proto_gauss": ProtoGauss,
    "logit_gauss": LogitGauss,
    "vote_rr": VoteRR,
    "central_gauss": CentralGauss,
    "vote_gnmax": VoteGNMax,
}


def mode_of(settings: "Privacy") -> Mode | None:
    """Return the mode of a scenario, None for ``none``."""
    return MODES[settings.mode](settings) if settings.mode in MODES else None


def noise_of(mode: Mode, rounds: int, costs: Callable[[float], Sequence[Event]]) -> float:
    """Return the mode's noise; where a target epsilon is set, the least that meets it.

    ``costs(noise)``: all that is paid in all rounds. Raises InputError where no noise meets the target.
    """
    target, delta = mode.settings.target_epsilon, mode.settings.delta
    if mode.noise is not None or target is None or delta is None:
        return mode.noise or 0.0
    try:
        found = calibrate(lambda size: costs(1 / size if mode.growing else size), target, delta, mode.unit)
    except ValueError:
        raise InputError(
            f"privacy.target_epsilon {target:g} cannot be reached in {rounds} rounds: what does not "
            "depend on the noise to be computed costs more; raise it, or the other noise."
        ) from None
    return 1 / found if mode.growing else found


def _change_of_a_record(settings: "Privacy") -> Change:
    return "zeroed out" if settings.rows is None else "added or removed"


def _public_rows(settings: "Privacy") -> str:
    if settings.rows is None:
        return "each client's number of rows, which is fixed"
    return f"privacy.rows ({settings.rows}), not a client's own number of rows"


def _rows(array: NDArray[Any]) -> NDArray[Any]:
    return array.reshape(math.prod(array.shape[:-1]), -1)
