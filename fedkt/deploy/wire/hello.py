"""How a site introduces itself: what the coordinator has to know before the first round, and nothing else.

A site answers Flower's ``query`` message with its name and :class:`Facts`, or with its name and a refusal.
"""

from importlib.metadata import version
from typing import Annotated, Literal

from flwr.app import ConfigRecord, RecordDict
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from fedkt.data.sets.dataset import InputSpec
from fedkt.deploy.wire.refusal import Refused
from fedkt.engine.world.world import World
from fedkt.knowledge.kinds import Dims

MAX_TEXT = 1 << 20
_KEY = "fedkt"

Size = Annotated[int, Field(ge=0, le=1 << 31)]
Short = Annotated[str, StringConstraints(max_length=200)]


class Input(BaseModel):
    """What the site's models get."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["image", "tabular", "tokens", "sparse"]
    shape: Annotated[list[Size], Field(min_length=1, max_length=3)]
    vocabulary: Size


class Facts(BaseModel):
    """``transfer``: hash of the transfer set and its number of rows; ``recipe``: hash of that of made rows,
    and ``numpy``: the version that made them, empty where there are none; ``width``: of the model's features;
    ``label_names`` and ``columns``: in order, empty where labels are numbers and columns have no names;
    ``parameters``: shapes of the model's parameters, only where the strategy shares weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    fedkt: Short
    transfer: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")]
    rows: Size
    classes: Annotated[int, Field(ge=1, le=1 << 20)]
    width: Size
    input: Input
    recipe: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = ""
    numpy: Short = ""
    label_names: list[Short] = []
    columns: list[Short] = []
    parameters: dict[Short, list[Size]] = {}

    @classmethod
    def of(cls, world: World, client: str) -> "Facts":
        """Collect them from a site's world."""
        dims, spec = world.dims(client), world.federation.input
        made = world.federation.stock
        shown = dims.parameters if "weights" in world.strategy.shares else {}
        return cls(
            fedkt=version("fedkt"),
            transfer=world.transfer_hash,
            rows=dims.transfer,
            recipe="" if made is None else made.recipe,
            numpy="" if made is None else version("numpy"),
            classes=dims.classes,
            width=dims.width,
            input=Input(kind=spec.kind, shape=list(spec.shape), vocabulary=spec.vocabulary),
            label_names=[name[:200] for name in world.federation.label_names or ()],
            columns=[name[:200] for name in world.federation.pool.columns or ()],
            parameters={name: list(shape) for name, shape in shown.items()},
        )

    @property
    def dims(self) -> Dims:
        """The sizes that fix the site's knowledge."""
        shapes = {name: tuple(shape) for name, shape in self.parameters.items()}
        return Dims(self.rows, self.rows, self.classes, self.width, shapes)

    @property
    def spec(self) -> InputSpec:
        """What the site's models get."""
        return InputSpec(self.input.kind, tuple(self.input.shape), self.input.vocabulary)

    @property
    def common(self) -> tuple[object, ...]:
        """What all sites of a run must have alike."""
        return (
            self.transfer,
            self.rows,
            self.classes,
            self.spec,
            *map(tuple, (self.label_names, self.columns)),
        )


def here_i_am(client: str, facts: Facts) -> RecordDict:
    """Return the answer of a site that takes part."""
    return RecordDict({_KEY: ConfigRecord({"client": client, "facts": facts.model_dump_json()})})


def not_me(client: str, refusal: Refused) -> RecordDict:
    """Return the answer of a site that does not; its name is "" where its file cannot be read."""
    entries = {"client": client, "refusal": refusal.reason, "detail": refusal.detail[:2000]}
    return RecordDict({_KEY: ConfigRecord({**entries})})


def heard(content: RecordDict) -> tuple[str, Facts]:
    """Read a site's answer: its name and facts. Raises Refused with the site's refusal, or the reader's."""
    record = content.get(_KEY)
    entries = dict(record) if isinstance(record, ConfigRecord) else {}
    texts = {k: v for k, v in entries.items() if isinstance(v, str) and len(v) <= MAX_TEXT}
    client = texts.get("client", "")
    if "facts" not in texts or not client:
        reason, detail = (
            texts.get("refusal", "site"),
            texts.get("detail", "it did not say who it is or what it has."),
        )
        raise Refused(reason, f"{client or 'a site'}: {detail}")  # type: ignore[arg-type]
    try:
        return client, Facts.model_validate_json(texts["facts"])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Refused("site", f"{client or 'a site'} introduced itself wrongly: {where}.") from None
