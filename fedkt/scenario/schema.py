"""The schema of a scenario: every setting with its type, range and default.

All models are frozen and refuse keys that they do not know. A model that is built directly from Python
raises pydantic's ValidationError; ``fedkt.scenario.load`` turns all of them into one InputError.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Strict,
    StringConstraints,
    Tag,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from fedkt.registry import IMPORT_PATH
from fedkt.scenario.adversity import Attacks, Churn, Robust
from fedkt.scenario.base import NotNegative, Positive, Text, Whole
from fedkt.scenario.base import Settings as _Settings
from fedkt.scenario.base import must_be as _must_be


class _Named(BaseModel):
    """A plug-in's name beside its own settings, flat in YAML: ``{name: knfu, beta: 10}``."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    name: str = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _flatten(cls, data: Any) -> Any:
        """Accept ``settings={...}`` from Python as well."""
        if isinstance(data, dict) and isinstance(data.get("settings"), dict):
            return {**data["settings"], **{key: value for key, value in data.items() if key != "settings"}}
        return data

    @property
    def settings(self) -> dict[str, Any]:
        """All keys but the name; what they may be, the plug-in says."""
        return dict(self.model_extra or {})


Optimizer = Literal["sgd", "adam", "adamw"]
Policy = Literal["random", "entropy", "margin"]
Sizes = Literal["equal", "lognormal", "linear", "square", "exponential"]
Kind = Literal["iid", "dirichlet", "pathological", "shard", "domain", "natural-id", "ways-shots"]

KINDS: tuple[str, ...] = get_args(Kind)
_KINDS_OF = {
    "alpha": ("dirichlet",),
    "classes_per_client": ("pathological", "ways-shots"),
    "shards_per_client": ("shard",),
    "shots": ("ways-shots",),
    "spread": ("ways-shots",),
    "column": ("natural-id",),
    "sizes": ("iid",),
    "samples_per_client": ("iid", "dirichlet", "pathological", "shard", "domain", "natural-id"),
}
"""The partition settings that not every kind knows, with the kinds that do."""


class Partition(_Settings):
    """How training rows are dealt to clients. A function of your own may read every setting."""

    kind: Annotated[
        Kind | Annotated[str, StringConstraints(pattern=f"^{IMPORT_PATH.pattern}$")],
        _must_be(f"one of {', '.join(KINDS)} or 'package.module:function'", *KINDS),
    ] = "dirichlet"
    clients: Whole | None = Field(None, validate_default=True)
    """Default 10; null for kinds whose data set fixes it (domain, natural-id) and for functions."""
    alpha: Positive = 0.5
    """Dirichlet concentration: the smaller, the more the clients' labels differ."""
    samples_per_client: Whole | None = None
    """Null: all rows are dealt. With dirichlet, set: inner Dirichlet over the pool; null: by class."""
    classes_per_client: Whole = 2
    """With ways-shots: the mean number of classes ("ways")."""
    shards_per_client: Whole = 2
    shots: Whole = 100
    """Mean rows per class of a client."""
    spread: int = Field(0, ge=0)
    """A client's number of classes and rows per class lie within ± this of their means."""
    column: Text | None = None
    """Which column of the data set holds the natural id; null: the data set's own choice."""
    sizes: Sizes = "equal"
    """How many rows each client gets, relative to the others."""
    min_samples: Whole = 1
    """No client gets fewer rows than this."""

    @field_validator(*_KINDS_OF, mode="before")
    @classmethod
    def _belongs(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a setting that was given although this kind would ignore it."""
        kind, kinds = info.data.get("kind"), _KINDS_OF[str(info.field_name)]
        if kind in KINDS and kind not in kinds:
            words = f"does not belong to partition kind '{kind}'; it belongs to {' and '.join(kinds)}"
            raise PydanticCustomError("sentence", "{words}", {"words": words})
        return value

    @field_validator("clients")
    @classmethod
    def _default_clients(cls, value: int | None, info: ValidationInfo) -> int | None:
        kind = info.data.get("kind")
        return 10 if value is None and kind in KINDS and kind not in ("domain", "natural-id") else value

    @model_serializer(mode="wrap")
    def _own_settings(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write only what belongs to the kind, so that what was written can be read again."""
        return {
            key: value
            for key, value in write(self).items()
            if self.kind not in KINDS or self.kind in _KINDS_OF.get(key, KINDS)
        }


class Transfer(_Settings):
    """The unlabelled rows that every client can see."""

    from_: Text = Field("train", alias="from")
    """``train`` (rows held out of it before it is dealt) or another data set."""
    size: Whole = Field(examples=[1000])
    policy: Policy = "random"
    rows: Whole | None = None
    """Rows asked for in each round; null: all."""

    @field_validator("rows")
    @classmethod
    def _within_size(cls, value: int | None, info: ValidationInfo) -> int | None:
        size = info.data.get("size")
        if value is not None and size is not None and value > size:
            raise PydanticCustomError("requirement", "{words}", {"words": f"at most the set's size, {size}"})
        return value


class PublicSpec(_Settings):
    """Labelled rows that every client can see, for strategies that need them."""

    from_: Text = Field("train", alias="from")
    size: Whole = Field(examples=[1000])


class Image(_Settings):
    """One shape for the images of all domains."""

    size: Whole = Field(examples=[28])
    """Height and width in pixels."""
    channels: Literal[1, 3] = Field(examples=[3])


class Normalise(_Settings):
    """Published constants of an image data set: (pixel - mean) / std, with pixels in [0, 1].

    They are fixed in the file, so no private row goes into them.
    """

    mean: Annotated[list[float], Field(min_length=1)] = Field(examples=[[0.1307]])
    """One number per channel, or one for all."""
    std: Annotated[list[Positive], Field(min_length=1)] = Field(examples=[[0.3081]])
    """One number per channel, or one for all."""


class Data(_Settings):
    """What is learned from, and who holds which part of it."""

    dataset: Annotated[
        Text | Annotated[dict[Text, Text], Field(min_length=1)],
        _must_be("a data set such as digits or 'npz:FILE', or a mapping from domains to data sets"),
    ] = "digits"
    partition: Partition = Partition()
    transfer: Transfer | None = None
    public: PublicSpec | None = None
    test: Text | None = None
    """The common test set, where it is another data set than the test split of ``dataset``."""
    image: Image | None = None
    normalise: Normalise | None = None
    validation: float = Field(0.0, ge=0, le=0.5)
    """The share of its own rows that each client sets aside."""
    missing: Literal["mean", "median", "zero"] | None = None
    """What replaces a missing value of a table, from each client's own training rows."""
    target: Annotated[
        Annotated[str, StringConstraints(pattern=r"^y>-?\d+(\.\d+)?$")] | None,
        _must_be("a comparison such as 'y>0', or null"),
    ] = None
    """Makes two classes of the labels: whether the comparison holds."""
    standardise: bool = False
    """Whether columns of a table are scaled to mean 0, deviation 1 of each client's own training rows."""


class ModelSpec(_Named):
    """A model of the zoo, or ``package.module:name``, with settings of its own."""


def _only_sgd(value: float, info: ValidationInfo) -> float:
    optimizer = info.data.get("optimizer")
    if value and optimizer in ("adam", "adamw"):
        words = f"does not belong to optimizer '{optimizer}', which has its own; it belongs to sgd"
        raise PydanticCustomError("sentence", "{words}", {"words": words})
    return value


Epochs = Annotated[int, Field(ge=0)]
Momentum = Annotated[float, Field(ge=0, lt=1), AfterValidator(_only_sgd)]


class Local(_Settings):
    """Training on private data, each round."""

    epochs: Epochs = 3
    steps: Whole | None = None
    """Batches in all, in place of ``epochs``; null: ``epochs`` passes over all rows."""
    batch_size: Whole = 32
    optimizer: Optimizer = "adam"
    lr: Positive = 0.001
    momentum: Momentum = 0.0
    weight_decay: NotNegative = 0.0


class Distill(_Settings):
    """Training on what the teacher knows, each round."""

    epochs: Epochs = 3
    batch_size: Whole = 64
    optimizer: Optimizer | None = None
    """Null: that of ``clients.local``."""
    lr: Positive | None = None
    """Null: that of ``clients.local``."""
    momentum: Momentum = 0.0
    weight_decay: NotNegative = 0.0
    temperature: Positive = 1.0
    """Softens teacher and student: softmax(logits / temperature)."""
    loss: Text | None = None
    """Null: the strategy's own."""


def _add_up_to_one(shares: dict[str, float]) -> dict[str, float]:
    total = sum(shares.values())
    if abs(total - 1) > 1e-6:
        words = f"shares that add up to 1, not {total:g}"
        raise PydanticCustomError("requirement", "{words}", {"words": words})
    return shares


Model = Annotated[Text | ModelSpec, _must_be("a model's name, or a mapping such as {name: mlp, width: 100}")]
Share = Annotated[float, Field(gt=0, le=1)]
MODEL_TAGS = ("list-of-models", "shares-of-models")
"""Pydantic puts these into the place of an error; they are no keys."""


class Clients(_Settings):
    """The parties: their models and how they train."""

    models: Annotated[
        Annotated[list[Model], Field(min_length=1), Tag(MODEL_TAGS[0])]
        | Annotated[
            dict[Text, Share], Field(min_length=1), AfterValidator(_add_up_to_one), Tag(MODEL_TAGS[1])
        ],
        Discriminator(lambda value: MODEL_TAGS[isinstance(value, dict)]),
    ] = Field(default_factory=lambda: list[str | ModelSpec](["mlp"]))
    """A list is dealt in turn; a mapping gives each model's share of the clients."""
    local: Local = Local()
    distill: Distill = Distill()


class ServerModel(_Settings):
    """A model of the server's own that learns from what is fused; its accuracy is ``accuracy.server``."""

    model: Model = Field(examples=["cnn"])
    distill: Distill | None = None
    """Null: as ``clients.distill``."""


class StrategySpec(_Named):
    """A strategy and its settings."""

    name: str = Field("knfu", min_length=1)


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


def _say(words: str) -> PydanticCustomError:
    return PydanticCustomError("sentence", "{words}", {"words": words})


class Privacy(_Settings):
    """What protects the knowledge that is sent, and how much it may cost (docs/privacy.md)."""

    mode: PrivacyMode = "none"
    delta: Annotated[float, Field(gt=0, lt=1)] | None = Field(None, validate_default=True)
    """The probability with which the bound epsilon may fail; well below 1 / rows of a client."""
    target_epsilon: Positive | None = None
    """Noise is chosen so that all rounds together cost this much; in place of the noise itself."""
    max_epsilon: Positive | None = Field(None, validate_default=True)
    """What a client's data may cost in all; default ``target_epsilon`` where that is given."""
    provenance: Literal["public", "dp_trained", "nondp_private"] | None = Field(None, validate_default=True)
    """What the features were trained on: nothing private (``public``), or this data under DP-SGD."""
    noise_multiplier: Positive | None = Field(None, validate_default=True)
    """Standard deviation of the noise as a multiple of the L2 sensitivity."""
    training_noise_multiplier: Positive | None = Field(None, validate_default=True)
    """With ``provenance: dp_trained``: the noise multiplier of the training."""
    max_grad_norm: Positive = 1.0
    """Largest L2 norm of one row's gradient."""
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
            raise _say(f"does not belong to privacy mode '{mode}'; it belongs to {' and '.join(modes)}")
        return value

    @field_validator("delta")
    @classmethod
    def _needs_delta(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is None and info.data.get("mode") in PRIVATE_MODES:
            raise _say(f"is missing; mode '{info.data['mode']}' needs it, for instance 'delta: 1e-5'")
        return value

    @field_validator("max_epsilon")
    @classmethod
    def _needs_budget(cls, value: float | None, info: ValidationInfo) -> float | None:
        mode, target = info.data.get("mode"), info.data.get("target_epsilon")
        if mode in PRIVATE_MODES and value is None:
            if target is None:
                raise _say(
                    f"is missing; mode '{mode}' needs a budget, for instance 'max_epsilon: 8' (or a "
                    "target_epsilon, which is then the budget too)"
                )
            return float(target)
        if value is not None and target is not None and value < target:
            raise _say(f"is {value:g}, less than target_epsilon {target:g}; it must be at least that")
        return value

    @field_validator("provenance")
    @classmethod
    def _needs_provenance(cls, value: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("mode") != "proto_gauss":
            return value
        if value is None:
            raise _say(
                "is missing; mode 'proto_gauss' must know what the features were trained on: public (nothing "
                "private) or dp_trained (this data, by DP-SGD)"
            )
        if value == "nondp_private":
            raise _say(
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
            raise _say(f"is missing; mode '{mode}' needs it, or a target_epsilon to compute it from")
        if value is not None and target is not None:
            raise _say("is given beside target_epsilon, which it follows from; leave one of them out")
        return value

    @field_validator("training_noise_multiplier", "threshold_noise")
    @classmethod
    def _goes_with(cls, value: float | None, info: ValidationInfo) -> float | None:
        training = info.field_name == "training_noise_multiplier"
        key = "provenance" if training else "threshold"
        other = info.data.get(key)
        wanted = other == "dp_trained" if training else other is not None
        if wanted and value is None:
            raise _say(f"is missing; {key} {other} needs it")
        if value is not None and not wanted and key in info.data:
            raise _say(f"has no effect with {key} {'null' if other is None else other}; leave it out")
        return value

    @model_serializer(mode="wrap")
    def _own_settings(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write only what belongs to the mode, so that what was written can be read again."""
        return {
            key: value for key, value in write(self).items() if self.mode in _MODES_OF.get(key, (self.mode,))
        }


class Participation(_Settings):
    """Who takes part in a round."""

    fraction: float = Field(1.0, gt=0, le=1)
    """The share of the clients that is asked in each round."""
    quorum: Whole = 1
    """With fewer accepted replies the old teachers stay."""
    no_quorum: Literal["skip", "repeat"] = "skip"
    """Repeat: ask others, and again those who did not answer, before the round is given up."""
    retries: Whole = 3
    """How often a round is repeated at most."""
    deadline_s: Positive = 600.0
    over_select: float = Field(1.0, ge=1)
    """Ask this many times more clients than needed; the first replies count, the others are late."""
    withdrawn: dict[Text, Whole] = Field(default_factory=dict)
    """Clients that are not asked any more, with the first round without them; fedkt forget writes it."""


class Engine(_Settings):
    """Where clients are simulated."""

    kind: Literal["inline", "ray", "flower"] = "ray"
    workers: Annotated[Literal["auto"] | Whole, _must_be("auto or a whole number of at least 1", "auto")] = (
        "auto"
    )
    cpus: Positive = 1.0
    """Processors per worker."""
    gpus: NotNegative = 0.0
    """Accelerators per worker; a fraction shares one."""
    address: Text | None = None
    """Of a running Ray cluster."""
    memory_limit: Annotated[
        Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)? ?[KMGT]iB$")] | None,
        _must_be("a size such as 4GiB, or null"),
    ] = None
    cohort: Annotated[
        Literal["auto", "off"] | Whole, _must_be("auto, off or a whole number of at least 1", "auto", "off")
    ] = "auto"
    """The largest number of clients of one architecture that are trained as one stacked model."""


class Evaluate(_Settings):
    """When accuracy is measured."""

    every: Whole = 1
    """Rounds from one evaluation to the next."""


class Scenario(_Settings):
    """One experiment."""

    name: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"),
        _must_be("letters, digits, '.', '_' and '-', since folders are named after it"),
    ] = Field(examples=["my-experiment"])
    data: Data = Data()
    clients: Clients = Clients()
    strategy: StrategySpec = StrategySpec()
    server_model: ServerModel | None = None
    """Null: the server trains no model."""
    privacy: Privacy = Privacy()
    rounds: Whole = 10
    participation: Participation = Participation()
    robust: Robust = Robust()
    attacks: Attacks = ()
    churn: Churn = Churn()
    engine: Engine = Engine()
    evaluate: Evaluate = Evaluate()
    allow: Annotated[tuple[Literal["weights", "features"], ...], Strict(False)] = ()
    """What strategies may share beyond knowledge."""
    seed: int = Field(0, ge=0)
