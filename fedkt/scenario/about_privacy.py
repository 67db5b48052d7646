"""The part of a scenario about privacy."""

from typing import Annotated, Any, Literal, get_args

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from fedkt.scenario.settings import Positive, Settings, Text, say

PrivacyMode = Literal["none", "dpsgd", "proto_gauss", "logit_gauss", "vote_rr", "central_gauss", "vote_gnmax"]
PRIVATE_MODES: tuple[str, ...] = get_args(PrivacyMode)[1:]
_TRAINED = ("dpsgd", "proto_gauss")
_NOISED = ("dpsgd", "proto_gauss", "logit_gauss", "central_gauss")
_MODES_OF = {
    "delta": PRIVATE_MODES,
    "max_epsilon": PRIVATE_MODES,
    "target_epsilon": PRIVATE_MODES,
    "provenance": ("proto_gauss",),
    "noise_multiplier": _NOISED,
    "training_noise_multiplier": ("proto_gauss",),
    "max_grad_norm": _TRAINED,
    "rows": _TRAINED,
    "census_noise": ("dpsgd",),
    "clip": ("proto_gauss", "logit_gauss", "central_gauss"),
    "epsilon_per_vote": ("vote_rr",),
    "vote_noise": ("vote_gnmax",),
    "threshold": ("vote_gnmax",),
    "threshold_noise": ("vote_gnmax",),
    "ledger": PRIVATE_MODES,
    "deterministic_noise": _TRAINED,
}
"""The settings of privacy, with the modes that have them."""
_NOISE_OF = {"vote_rr": "epsilon_per_vote", "vote_gnmax": "vote_noise"}
"""The setting that says how much noise there is, where it is not ``noise_multiplier``."""


class Privacy(Settings):
    """What protects the knowledge that is sent, and how much it may cost (docs/privacy.md).

    >>> Privacy(mode="dpsgd", delta=1e-5, target_epsilon=8.0).max_epsilon
    8.0
    """

    mode: PrivacyMode = "none"
    """Where noise is added; every other setting belongs to some of the modes."""
    delta: Annotated[float, Field(gt=0, lt=1)] | None = Field(None, validate_default=True)
    """The probability with which the bound epsilon may fail; well below 1 / rows of a client."""
    target_epsilon: Positive | None = None
    """Noise is chosen so that all rounds together cost this epsilon; in place of the noise itself."""
    max_epsilon: Positive | None = Field(None, validate_default=True)
    """The epsilon that a client's data may cost in all; default ``target_epsilon`` where that is given."""
    provenance: Literal["public", "dp_trained", "nondp_private"] | None = Field(None, validate_default=True)
    """What the features were trained on: nothing private (``public``), or this data under DP-SGD."""
    noise_multiplier: Positive | None = Field(None, validate_default=True)
    """Standard deviation of the noise as a multiple of the L2 sensitivity."""
    training_noise_multiplier: Positive | None = Field(None, validate_default=True)
    """With ``provenance: dp_trained``: the noise multiplier of the training."""
    max_grad_norm: Positive = 1.0
    """Largest L2 norm of one row's gradient."""
    rows: Annotated[int, Field(ge=1)] | None = None
    """A public number that rate, steps and divisor of private training follow from, for every client, in
    place of its own number of rows: then a record may be added or removed, not only zeroed out."""
    census_noise: Positive = 5.0
    """Standard deviation of the noise on each count that a client sends, once, for row policy ``census``."""
    clip: Positive = 1.0
    """Largest L2 norm of a row's features (proto_gauss), of a released row (logit_gauss), of a client's
    whole contribution (central_gauss)."""
    epsilon_per_vote: Positive | None = Field(None, validate_default=True)
    """Epsilon of one randomised answer."""
    vote_noise: Positive | None = Field(None, validate_default=True)
    """Standard deviation of the noise on the number of votes for a class."""
    threshold: Positive | None = None
    """Votes (with noise) that the winner needs for a row to be answered; null: all rows are answered."""
    threshold_noise: Positive | None = Field(None, validate_default=True)
    """Standard deviation of the noise on that comparison."""
    ledger: Text | None = None
    """A folder whose ledgers go on from run to run; null: the run has its own. Sites use their own."""
    deterministic_noise: bool = False
    """For debugging: training noise from the scenario's seed, which hides nothing: epsilon is infinite."""

    @field_validator(*_MODES_OF, mode="before")
    @classmethod
    def _belongs(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a setting that was given although this mode would ignore it."""
        mode, modes = info.data.get("mode"), _MODES_OF[str(info.field_name)]
        if value is not None and value is not False and mode is not None and mode not in modes:
            raise say(f"does not belong to privacy mode '{mode}'; it belongs to {' and '.join(modes)}")
        return value

    @field_validator("delta")
    @classmethod
    def _needs_delta(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is None and info.data.get("mode") in PRIVATE_MODES:
            raise say(f"is missing; mode '{info.data['mode']}' needs it, for instance 'delta: 1e-5'")
        return value

    @field_validator("max_epsilon")
    @classmethod
    def _needs_budget(cls, value: float | None, info: ValidationInfo) -> float | None:
        mode, target = info.data.get("mode"), info.data.get("target_epsilon")
        if mode in PRIVATE_MODES and value is None:
            if target is None:
                raise say(
                    f"is missing; mode '{mode}' needs a budget, for instance 'max_epsilon: 8' (or a "
                    "target_epsilon, which is then the budget too)"
                )
            return float(target)
        if value is not None and target is not None and value < target:
            raise say(f"is {value:g}, less than target_epsilon {target:g}; it must be at least that")
        return value

    @field_validator("provenance")
    @classmethod
    def _needs_provenance(cls, value: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("mode") != "proto_gauss":
            return value
        if value is None:
            raise say(
                "is missing; mode 'proto_gauss' must know what the features were trained on: public (nothing "
                "private) or dp_trained (this data, by DP-SGD)"
            )
        if value == "nondp_private":
            raise say(
                "is nondp_private: noise on a mean does not bound what a record did to the features, so "
                "there is no epsilon; use dp_trained, or mode dpsgd with a strategy that sends predictions"
            )
        return value

    @field_validator("noise_multiplier", "epsilon_per_vote", "vote_noise")
    @classmethod
    def _needs_noise(cls, value: float | None, info: ValidationInfo) -> float | None:
        mode, target = info.data.get("mode"), info.data.get("target_epsilon")
        name = _NOISE_OF.get(str(mode), "noise_multiplier")
        if mode not in PRIVATE_MODES or name != info.field_name:
            return value
        if value is None and target is None:
            raise say(f"is missing; mode '{mode}' needs it, or a target_epsilon to compute it from")
        if value is not None and target is not None:
            raise say("is given beside target_epsilon, which it follows from; leave one of them out")
        return value

    @field_validator("rows")
    @classmethod
    def _trains_with_rows(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("provenance") == "public":
            raise say(
                "has no effect with provenance public, where nothing is trained privately; leave it out"
            )
        return value

    @field_validator("training_noise_multiplier", "threshold_noise")
    @classmethod
    def _goes_with(cls, value: float | None, info: ValidationInfo) -> float | None:
        training = info.field_name == "training_noise_multiplier"
        key = "provenance" if training else "threshold"
        other = info.data.get(key)
        wanted = other == "dp_trained" if training else other is not None
        if wanted and value is None:
            raise say(f"is missing; {key} {other} needs it")
        if value is not None and not wanted and key in info.data:
            raise say(f"has no effect with {key} {'null' if other is None else other}; leave it out")
        return value

    @model_serializer(mode="wrap")
    def _own_settings(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write only what belongs to the mode, so that what was written can be read again."""
        return {
            key: value for key, value in write(self).items() if self.mode in _MODES_OF.get(key, (self.mode,))
        }
