"""What a scenario decides about reading its data, where their form leaves a choice."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from fedkt.scenario import Data

Form = Literal["table", "tokens", "text", "image"]


@dataclass(frozen=True)
class Choices:
    """The same for all sets of a federation.

    ``label``: the column that holds the label; ``columns``: those that are used, in this order, None for all
    that can be; ``drop``: those that are left out; ``kind``: what rows are; ``whole``: what whole numbers are
    where ``kind`` does not say; ``target``: a comparison ``y>N`` that makes two classes; ``labels``: the
    names of all classes in the order of their numbers; ``labelled``: whether labels are read at all;
    ``task``: what is to be predicted; ``ranges``: of numbers, smallest and largest value of each.
    """

    label: str | None = None
    columns: tuple[str, ...] | None = None
    drop: tuple[str, ...] = ()
    kind: Form | None = None
    whole: Form | None = None
    target: str | None = None
    labels: tuple[str, ...] | None = None
    labelled: bool = True
    task: str = "classification"
    ranges: tuple[tuple[float, float], ...] = ()

    @classmethod
    def of(cls, data: "Data", whole: Form | None = None) -> "Choices":
        """Return what a scenario decides; ``whole``: what its models take of tables and token ids."""
        return cls(
            data.label,
            None if data.columns is None else tuple(data.columns),
            tuple(data.drop),
            data.kind,
            whole,
            data.target,
            None if data.labels is None else tuple(data.labels),
            task=data.task,
            ranges=tuple((low, high) for low, high in data.targets or ()),
        )

    @property
    def unlabelled(self) -> "Choices":
        """The same for rows whose labels nobody reads."""
        return replace(self, labelled=False)

    @property
    def by_name(self) -> list[str]:
        """The settings that speak of columns by their names."""
        given = {"label": self.label, "columns": self.columns, "drop": self.drop}
        return [f"data.{name}" for name, value in given.items() if value]
