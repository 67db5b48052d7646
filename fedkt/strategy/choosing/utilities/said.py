"""What was said of some rows: all that a utility may look at."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Said:
    """Probabilities about the same rows: ``answers`` [clients, rows, classes], zeros where a client left a
    row out; ``teachers`` [teachers, rows, classes], what was made of them; ``before`` [rows, classes]: the
    teachers' mean when the rows were last spoken about, uniform where they never were. Empty where nobody
    needs them."""

    answers: Tensor
    teachers: Tensor
    before: Tensor


def spoke(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Return which clients said anything of a row [clients, rows], and how many did, at least 1 [rows]."""
    there = (probabilities.sum(-1) > 0).to(probabilities.dtype)
    return there, there.sum(0).clamp(min=1)
