"""What a scenario decides about reading its data, where their form leaves a choice."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from fedkt.data.columns.categories import Values

if TYPE_CHECKING:
    from fedkt.scenario import Data

Form = Literal["table", "tokens", "text", "image"]


@dataclass(frozen=True)
class Choices:
    """The same for all sets of a federation.

    ``label``: the column that holds the label, or those of several labels or numbers of a row; ``columns``:
    those that are used, in this order, None for all that can be;
    ``drop``: those that are left out; ``kind``: what rows are; ``whole``: what whole numbers are
    where ``kind`` does not say; ``target``: a comparison ``y>N`` that makes two classes; ``labels``: the
    names of all classes in the order of their numbers; ``labelled``: whether labels are read; ``site``: the
    column that says whose a row is; ``categories``: columns that hold one of a few values, and which;
    ``by_site``: the columns that each site has, where they differ; ``white``: what black and white are in raw
    images, None where their form says it; ``passage``: the bytes of a text that are read as they are, 0 where
    text becomes ids of words; ``task``: what is to be predicted; ``ranges``: of numbers, the
    smallest and largest value of each; ``named_by``: the setting that gives ``labels``.
    """

    label: str | tuple[str, ...] | None = None
    columns: tuple[str, ...] | None = None
    drop: tuple[str, ...] = ()
    kind: Form | None = None
    whole: Form | None = None
    target: str | None = None
    labels: tuple[str, ...] | None = None
    labelled: bool = True
    task: str = "classification"
    ranges: tuple[tuple[float, float], ...] = ()
    site: str | None = None
    categories: tuple[tuple[str, Values], ...] = ()
    by_site: tuple[tuple[str, tuple[str, ...]], ...] = ()
    white: tuple[float, float] | None = None
    passage: int = 0
    named_by: str = "data.labels"

    @classmethod
    def of(cls, data: "Data", whole: Form | None = None) -> "Choices":
        """Return what a scenario decides; ``whole``: what its models take of tables and token ids."""
        by_site = data.columns if isinstance(data.columns, dict) else {}
        columns = data.columns
        if isinstance(columns, dict):
            columns = list(dict.fromkeys(name for names in by_site.values() for name in names))
        return cls(
            tuple(data.label) if isinstance(data.label, list) else data.label,
            None if columns is None else tuple(columns),
            tuple(data.drop),
            data.kind,
            whole,
            data.target,
            None if data.class_names is None else tuple(data.class_names),
            task=data.task,
            ranges=tuple((low, high) for low, high in data.targets or ()),
            site=data.site,
            categories=tuple((name, _values(how)) for name, how in data.categories.items()),
            by_site=tuple((site, tuple(names)) for site, names in by_site.items()),
            white=data.white,
            labelled=not data.bytes_read,
            passage=data.bytes_read,
            named_by="data.classes" if data.per_site else "data.labels",
        )

    def at(self, site: str) -> "Choices":
        """The same for the rows of one site alone: the columns that it has."""
        mine = dict(self.by_site).get(site, self.columns)
        held = tuple(one for one in self.categories if not self.by_site or mine is None or one[0] in mine)
        return replace(self, columns=mine, categories=held, by_site=())

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns that ``label`` names."""
        return (self.label,) if isinstance(self.label, str) else self.label or ()

    @property
    def unlabelled(self) -> "Choices":
        """The same for rows whose labels nobody reads."""
        return replace(self, labelled=False)

    @property
    def by_name(self) -> list[str]:
        """The settings that speak of columns by their names."""
        given = {"label": self.label, "columns": self.columns, "drop": self.drop}
        return [f"data.{name}" for name, value in {**given, "categories": self.categories}.items() if value]


def _values(how: "list[str] | Literal['transfer', 'train']") -> Values:
    return how if isinstance(how, str) else tuple(how)
