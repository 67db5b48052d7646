"""The parts of a scenario about data: the private set, its partition, transfer and public rows."""

from typing import Annotated, Any, Literal, get_args

from pydantic import (
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
from fedkt.scenario.about_adversity import Tasks
from fedkt.scenario.about_images import Image
from fedkt.scenario.about_rows import (
    AGELESS,
    EXPLORED,
    MECHANISMS,
    POLICY_TAGS,
    Categories,
    ClassNames,
    Column,
    ColumnsUsed,
    Corruptions,
    LabelColumns,
    PolicyName,
    RowPolicy,
    Scale,
    Speech,
)
from fedkt.scenario.settings import Positive, Settings, Text, Whole, differs, must_be, say

MADE = "made:"
"""How the name of what a generator makes begins."""
HEARD = 100
"""Rows of each set that a round of an audition asks about."""
Range = Annotated[list[float], Field(min_length=2, max_length=2)]
TaskName = Literal["classification", "multilabel", "regression", "links", "language"]
Sizes = Literal["equal", "lognormal", "linear", "square", "exponential"]
Kind = Literal[
    "iid", "dirichlet", "pathological", "shard", "domain", "natural-id", "ways-shots", "whole-classes"
]

KINDS: tuple[str, ...] = get_args(Kind)
_KINDS_OF = {
    "alpha": ("dirichlet",),
    "classes_per_client": ("pathological", "ways-shots"),
    "shards_per_client": ("shard",),
    "shots": ("ways-shots",),
    "spread": ("ways-shots",),
    "column": ("natural-id",),
    "sizes": ("iid",),
    "samples_per_client": (
        *("iid", "dirichlet", "pathological", "shard", "domain", "natural-id", "whole-classes"),
    ),
}
"""The partition settings that not every kind knows, with the kinds that do."""


class Partition(Settings):
    """How training rows are dealt to clients. A function of your own may read every setting.

    >>> Partition(kind="dirichlet", alpha=0.1, samples_per_client=50).clients
    10
    """

    kind: Annotated[
        Kind | Annotated[str, StringConstraints(pattern=f"^{IMPORT_PATH.pattern}$")],
        must_be(f"one of {', '.join(KINDS)} or 'package.module:function'", *KINDS),
    ] = "dirichlet"
    """A kind, or ``package.module:function``."""
    clients: Whole | None = Field(None, validate_default=True)
    """Default 10; null for kinds whose data set fixes it (domain, natural-id) and for functions."""
    alpha: Positive = 0.5
    """Dirichlet concentration: the smaller, the more the clients' labels differ."""
    samples_per_client: Whole | None = None
    """Null: all rows are dealt. With dirichlet, set: inner Dirichlet over the pool; null: by class."""
    classes_per_client: Whole = 2
    """Classes that a client holds. With ways-shots: the mean number of classes ("ways")."""
    shards_per_client: Whole = 2
    """Pieces of the rows, sorted by label, that a client gets."""
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


class Transfer(Settings):
    """The unlabelled rows that every client can see.

    >>> Transfer(from_="train", size=300, rows=100).rule.utility
    'contested'
    """

    from_: Text = Field("train", alias="from")
    """``train`` (rows held out of it before it is dealt), another data set, or ``made:NAME``: rows that a
    generator makes of the scenario alone, so that nobody has to give any."""
    size: Whole = Field(examples=[1000])
    """Rows in the set."""
    policy: (
        Annotated[
            Annotated[PolicyName, Tag(POLICY_TAGS[0])] | Annotated[RowPolicy, Tag(POLICY_TAGS[1])],
            Discriminator(lambda value: POLICY_TAGS[not isinstance(value, str)]),
        ]
        | None
    ) = None
    """Which rows a round asks for, where ``rows`` are fewer: a utility alone, of which the best are taken;
    ``cover``, ``strata`` or ``domains`` alone, with all rows worth the same; ``hard``: every image is there
    in 8 versions, of which hard ones are asked for most; or all parts. Of several sources
    ``entropy`` and ``margin`` end in asking for those that tell nothing: nobody is sure of noise. Null:
    ``contested`` with a fifth by chance, or ``random`` where rows are others in each round."""
    rows: Whole | None = None
    """Rows asked for in each round, at most ``size``; null: all."""
    equal_steps: bool = False
    """Whether distillation takes as many steps as it would with all ``size`` rows, where ``rows`` are
    fewer."""
    keep: Whole | None = Field(None, examples=[250])
    """How many rows are talked about once teachers can tell rows apart: those that they find most typical of
    a class, of each class alike; null: all."""
    audition: list[Text] = Field(default_factory=list, examples=[["made:shapes", "made:strokes"]])
    """Sets of ``size`` rows of which, in place of ``from``, the one is talked about that is answered most
    variously in the first rounds; with policy ``domains`` all of them are, one more than another."""
    refresh: Literal["never", "round"] = "never"
    """Whether made rows are others in each round."""
    generator: dict[Text, Any] = Field(default_factory=dict, examples=[{"fall": 0.5, "length": 80}])
    """The settings of the generator that makes the rows."""

    @field_validator("rows")
    @classmethod
    def _within_size(cls, value: int | None, info: ValidationInfo) -> int | None:
        size = info.data.get("size")
        if value is not None and size is not None and value > size:
            raise PydanticCustomError("requirement", "{words}", {"words": f"at most the set's size, {size}"})
        return value

    @property
    def sources(self) -> list[str]:
        """The sets that rows may come from: one, or those of the audition."""
        return self.audition or [self.from_]

    @property
    def made(self) -> bool:
        """Whether generators make all rows."""
        return all(source.startswith(MADE) for source in self.sources)

    @property
    def fresh(self) -> bool:
        """Whether each round has rows of its own."""
        return self.refresh == "round"

    @property
    def asked(self) -> int:
        """How many rows a round asks for at most; 0: all."""
        if not self.audition or self.keep is not None:
            return 0 if self.keep is not None else self.rows or 0
        if self.rule.mechanism == "domains":
            return self.rows or self.size
        return max(self.rows or self.size, len(self.audition) * min(HEARD, self.size))

    @property
    def versions(self) -> int:
        """In how many versions each row is there."""
        return 8 if self.rule.mechanism == "versions" else 1

    @property
    def rule(self) -> RowPolicy:
        """The policy with all its parts."""
        if self.policy is None:
            return RowPolicy() if self.fresh else RowPolicy(utility="contested", explore=EXPLORED)
        if isinstance(self.policy, RowPolicy):
            return self.policy
        if self.policy == "hard":
            return RowPolicy(utility="hard", mechanism="versions")
        if self.policy in MECHANISMS:
            return RowPolicy(mechanism=self.policy)  # type: ignore[arg-type]
        return RowPolicy(utility=self.policy)  # type: ignore[arg-type]

    @field_validator("audition")
    @classmethod
    def _several(cls, value: list[str], info: ValidationInfo) -> list[str]:
        if len(value) == 1:
            raise say(f"names {value[0]} alone, so that nothing is chosen; data.transfer.from must name it")
        if len(set(value)) < len(value):
            raise say("names a set twice; they must differ")
        if "train" in value:
            raise say("names train; it must name sets that are nobody's own, such as made:shapes")
        if value and info.data.get("from_") != cls.model_fields["from_"].default:
            raise say(
                f"is given, and so is data.transfer.from, '{info.data.get('from_')}'; one must be left out"
            )
        return value

    @field_validator("refresh", "generator")
    @classmethod
    def _of_made_rows(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse what is about made rows where they are not made, and scores of rows that are gone."""
        sources, policy = info.data.get("audition") or [str(info.data.get("from_"))], info.data.get("policy")
        if isinstance(policy, RowPolicy):
            policy = policy.utility
        if differs(cls, info, value) and value and not any(source.startswith(MADE) for source in sources):
            raise say(
                f"is given, but '{sources[0]}' makes no rows; data.transfer.from must be made:NAME, or it "
                f"be left "
                "out"
            )
        if info.field_name == "generator" and value and info.data.get("audition"):
            raise say("is given, but generators at an audition have their defaults; it must be left out")
        if value == "round" and policy not in (None, *AGELESS, *MECHANISMS):
            raise say(
                f"is round, but policy {policy} chooses by what was said of the same rows before; with "
                f"new rows in "
                "each round policy must be random"
            )
        if value == "round" and info.data.get("keep") is not None:
            raise say("is round, but data.transfer.keep keeps rows for all rounds; one must be left out")
        return value

    @field_validator("keep")
    @classmethod
    def _some(cls, value: int | None, info: ValidationInfo) -> int | None:
        size, rows = info.data.get("size"), info.data.get("rows")
        if value is not None and size is not None and not (rows or 1) <= value < size:
            least = f" and at least data.transfer.rows, {rows}" if rows else ""
            raise PydanticCustomError(
                "requirement", "{words}", {"words": f"below the set's size, {size}{least}"}
            )
        return value

    @model_validator(mode="after")
    def _one_choice(self) -> "Transfer":
        if self.audition and self.keep is not None:
            raise say(
                "has audition and keep; a set that is chosen by what is said of some of its rows is kept "
                "whole, so one must be left out"
            )
        if self.rule.mechanism == "domains" and not self.audition:
            raise say("has policy domains, but no several sets; audition must name them")
        if self.versions > 1 and (self.made or self.audition or self.keep is not None):
            raise say("has versions of its rows, which made ones, an audition and keep know none of")
        if self.versions > 1 and self.size % self.versions:
            raise say(f"has size {self.size}, versions included; it must be a multiple of {self.versions}")
        return self


class PublicSpec(Settings):
    """Labelled rows that every client can see, for strategies that need them.

    >>> PublicSpec(size=100).from_
    'train'
    """

    from_: Text = Field("train", alias="from")
    """``train`` (rows held out of it before it is dealt) or another data set."""
    size: Whole = Field(examples=[1000])
    """Rows."""


class Data(Settings):
    """What is learned from, and who holds which part of it.

    >>> Data(dataset="npz:mnist.npz", transfer=Transfer(size=1000), validation=0.1).partition.kind
    'dirichlet'
    """

    dataset: Annotated[
        Text | Annotated[dict[Text, Text], Field(min_length=1)],
        must_be("a data set such as digits or 'npz:FILE', or a mapping from domains to data sets"),
    ] = "digits"
    """A data set's name, ``csv:FILE``, ``parquet:FILE``, ``npz:FILE``, ``images:FOLDER``, ``triples:FILE``,
    ``hf:NAME`` or ``package.module:function``; of several domains, each one's."""
    task: TaskName = "classification"
    """What is to be predicted of a row: one class, several labels (y {0,1} [rows, labels]), numbers (y
    [rows, targets]), whether a link, head, relation and tail, is true (links), or the next token of a text,
    which needs no y (language)."""
    targets: Annotated[list[Range], Field(min_length=1)] | None = Field(None, examples=[[[0, 100]]])
    """Of regression, smallest and largest value of each target, which all parties know; null: targets are
    learned as they are."""
    corruptions: Corruptions = Corruptions()
    """Of task links, what is not true."""
    speech: Speech | None = None
    """How much of a text is read, and how much models say of it; null: the default of each part."""
    partition: Partition = Partition()
    """How its training rows are dealt."""
    transfer: Transfer | None = None
    """Unlabelled rows for all; null: there are none."""
    public: PublicSpec | None = None
    """Labelled rows for all; null: there are none."""
    schema_: dict[Text, Column] | None = Field(None, alias="schema", examples=[{"age": [20, 90]}])
    """What anybody may know of each column of a table, from which ``made:schema`` makes rows."""
    test: Text | None = None
    """The common test set, where it is another data set than the test split of ``dataset``."""
    kind: Literal["table", "tokens", "text", "image"] | None = None
    """What rows are, where form leaves it open (whole numbers: a table or token ids); null: form decides."""
    label: LabelColumns | None = Field(None, examples=["sick", ["fever", "cough"]])
    """Which column of a table holds the label; null: 'label', or the only one that may be. A list, with
    the other tasks: one for each label or number to predict."""
    site: Text | None = Field(None, examples=["hospital"])
    """Which column of a table says whose a row is; null: none does, or the sources do."""
    columns: ColumnsUsed | None = Field(None, examples=[["age", "pressure"]])
    """The columns that are used, in this order; null: all that can be. A list for each site: what it has; the
    others are blank there, and 0 for its model."""
    drop: list[Text] = Field(default_factory=list, examples=[["diagnosis_code"]])
    """Columns to leave out."""
    categories: dict[Text, Categories] = Field(
        default_factory=dict, examples=[{"sex": ["f", "m"], "ward": "transfer"}]
    )
    """Columns that hold one of a few values, each of which becomes a column of 0 and 1: the values, or
    ``transfer``: those of the transfer set, or ``train``: those of all rows, which no privacy mode allows."""
    labels: ClassNames | None = Field(None, examples=[["no", "yes"]])
    """The names of all classes, in the order of their numbers; null: those that occur, in sorted order;
    ``per-site``: those of all sites, each of which knows and answers for its own alone."""
    classes: Annotated[list[Text], Field(min_length=2)] | None = Field(None, examples=[["flu", "cold"]])
    """With labels per-site the names of all classes, which deployed sites need; null: those that occur."""
    label_maps: dict[Text, dict[Text, Text]] = Field(default_factory=dict, examples=[{"b": {"krank": "ill"}}])
    """What sites call the classes, by site: their names to the common ones; others are common already."""
    learn_others: bool = False
    """With labels per-site: whether a site also learns the classes that only its teacher knows."""
    overlap: Literal["refuse", "report"] = "refuse"
    """What is done where rows of one data set are private, public, transfer or test rows of another."""
    image: Image | None = None
    """The shape that images are brought to; null: their own."""
    white: Annotated[tuple[float, float], Strict(False)] | None = Field(None, examples=[[0, 4095]])
    """What black and white are in raw images, such as ``[0, 4095]`` for 12 bits; null: 0 and 255 of whole
    numbers, 0 and 1 of others."""
    normalise: Scale | None = None
    """Constants that images are scaled by, or ``transfer``: each channel's own mean and deviation in the
    transfer set, or ``none``: pixels stay in [0, 1]. Null: ``transfer`` where there is one, else ``none``."""
    unlabelled: list[Text] = Field(default_factory=list, examples=[["switzerland"]])
    """Clients that have no labels: they learn from teachers alone, and what they say is not fused."""
    tasks: Tasks | None = None
    """Tasks that each client has one after another; null: it holds all its rows in every round."""
    validation: float = Field(0.0, ge=0, le=0.5)
    """The share of its own rows that each client sets aside."""
    missing: Literal["mean", "median", "zero"] | None = None
    """What replaces a missing value of a table, from each client's own training rows."""
    target: Annotated[
        Annotated[str, StringConstraints(pattern=r"^y>-?\d+(\.\d+)?$")] | None,
        must_be("a comparison such as 'y>0', or null"),
    ] = None
    """Makes two classes of the labels: whether the comparison holds."""
    standardise: bool = False
    """Whether columns of a table are scaled to mean 0, deviation 1 of each client's own training rows."""

    @field_validator("targets")
    @classmethod
    def _of_numbers(cls, value: list[list[float]] | None, info: ValidationInfo) -> Any:
        """Refuse ranges of what is no number, and empty ones."""
        if value is not None and info.data.get("task") != "regression":
            raise say("gives ranges of numbers, which only data.task regression predicts; leave it out")
        for low, high in value or ():
            if not low < high:
                raise say(f"has the range {low:g} to {high:g}; the first must be below the second")
        return value

    @field_validator("corruptions", "speech")
    @classmethod
    def _of_a_task(cls, value: Any, info: ValidationInfo) -> Any:
        what = {"corruptions": ("links", "what is not true"), "speech": ("language", "text")}
        task, words = what[str(info.field_name)]
        if differs(cls, info, value) and info.data.get("task") != task:
            raise say(f"is about {words}, which only data.task {task} asks for; leave it out")
        return value

    @property
    def bytes_read(self) -> int:
        """Bytes of a passage that are read, 0 where rows are no text to predict."""
        return (self.speech or Speech()).passage if self.task == "language" else 0

    @field_validator("white")
    @classmethod
    def _brighter(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] >= value[1]:
            raise say(f"is [{value[0]:g}, {value[1]:g}]; black must be below white")
        return value

    @property
    def per_site(self) -> bool:
        """Whether each site knows its own classes alone."""
        return self.labels == "per-site"

    @property
    def class_names(self) -> list[str] | None:
        """The names of all classes, where the scenario fixes them."""
        return self.classes if isinstance(self.labels, str) else self.labels

    @field_validator("classes", "label_maps", "learn_others")
    @classmethod
    def _of_sites(cls, value: Any, info: ValidationInfo) -> Any:
        if value and info.data.get("labels") != "per-site":
            raise say("is given, but data.labels is not per-site; one must be changed")
        return value

    @field_validator("label")
    @classmethod
    def _one_of_a_class(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, list) and info.data.get("task") == "classification":
            raise say(
                "names several columns, but a row has one class; data.task must be multilabel or regression"
            )
        return value

    @field_validator("columns", "label", "labels", "classes", "unlabelled")
    @classmethod
    def _each_once(cls, value: Any) -> Any:
        """Refuse a name that stands for two places."""
        given, value = value, None if isinstance(value, str) else value
        for names in value.values() if isinstance(value, dict) else [value or ()]:
            twice = [name for name in dict.fromkeys(names) if list(names).count(name) > 1]
            if twice:
                raise say(f"names {twice[0]!r} twice; name it once")
        return given
