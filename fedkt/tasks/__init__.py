"""What is to be predicted (``data.task``): one class of a row, several labels of it, numbers, whether
a link is true, or the next token of a text.

``task`` says what a task must know, a file each holds one; ``scoring`` measures classes. May import what
reads columns (``data.columns``) and what stands below. Begin with :class:`Task`, then
:class:`Classification`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from fedkt.tasks.classification import Classification
from fedkt.tasks.language import Language
from fedkt.tasks.links import Links
from fedkt.tasks.multilabel import Multilabel
from fedkt.tasks.regression import Regression
from fedkt.tasks.task import Figure, Figures, Metric, Targets, Task

if TYPE_CHECKING:
    from fedkt.scenario import Data

__all__ = [
    "CLASSIFICATION",
    "EVERY",
    "TASKS",
    "TEXT",
    "Classification",
    "Figure",
    "Figures",
    "Language",
    "Links",
    "Metric",
    "Multilabel",
    "Regression",
    "Targets",
    "Task",
    "named",
    "task_of",
]

CLASSIFICATION = Classification()
Ranges = tuple[tuple[float, float], ...]
TASKS: dict[str, Callable[[Ranges], Task]] = {
    "classification": lambda ranges: CLASSIFICATION,
    "multilabel": lambda ranges: Multilabel(),
    "regression": Regression,
    "links": lambda ranges: Links(),
    "language": lambda ranges: Language(),
}
"""All tasks by name. A further one is a class of its own, a line here and a word of ``data.task``."""
TEXT = frozenset({Language.name})
"""The tasks whose rows have many answers each, one at every place."""
EVERY = frozenset(TASKS) - TEXT
"""The names of all tasks whose rows have one answer each."""


def named(name: str, ranges: Ranges = ()) -> Task:
    """Return a task by its name; ``ranges``: smallest and largest value of each target, where known."""
    return TASKS[name](ranges)


def task_of(data: "Data") -> Task:
    """Return the task of a scenario's data.

    >>> from fedkt.scenario import Data
    >>> task_of(Data()).metric.name
    'accuracy'
    """
    return named(data.task, tuple((low, high) for low, high in data.targets or ()))
