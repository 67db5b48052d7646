"""What a client keeps of tasks that it learned one after another: the matrix of accuracies, and its figures.

R[i][j] is the accuracy on the j-th task of a client's own order after it learned the i-th, T of them; b[j] is
that of the untrained model. Lopez-Paz, Ranzato 2017, "Gradient Episodic Memory for Continual Learning", arXiv
1706.08840 (ACC, BWT, FWT); Chaudhry et al. 2018, "Riemannian Walk for Incremental Learning", arXiv 1801.10112
(F); Liu et al. 2023, "LIBERO", arXiv 2306.03310 (its FWT and NBT).
"""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedkt.drawing import blank, write_picture

Matrix = Sequence[Sequence[float]]


def figures(
    matrix: Matrix, untrained: Sequence[float], within: Sequence[Sequence[float]]
) -> dict[str, float]:
    """Return the figures of a client's matrix [T, T], T >= 2.

    ``untrained`` [T]; ``within``: by task the accuracies on it while it is learned. ``acc``: at the end, over
    all tasks; ``just_learnt`` (LA); ``bwt``: what later tasks did to earlier ones; ``forgetting`` (F): from
    the best that was; ``fwt``: on a task before it is seen, above the untrained model; ``libero_fwt``: speed
    and height of learning; ``nbt``: mean loss of a task over the later ones.

    >>> matrix = [[0.9, 0.1, 0.1], [0.7, 0.8, 0.2], [0.6, 0.75, 0.9]]
    >>> found = figures(matrix, [0.1] * 3, [[0, 0.5, 0.8, 0.7]] * 3)
    >>> {name: round(value, 4) for name, value in found.items()}  # doctest: +NORMALIZE_WHITESPACE
    {'acc': 0.75, 'just_learnt': 0.8667, 'bwt': -0.175, 'forgetting': 0.175, 'fwt': 0.05,
     'libero_fwt': 0.525, 'nbt': 0.15}
    """
    last, n = matrix[-1], len(matrix)
    return {
        "acc": statistics.fmean(last),
        "just_learnt": statistics.fmean(matrix[i][i] for i in range(n)),
        "bwt": statistics.fmean(last[i] - matrix[i][i] for i in range(n - 1)),
        "forgetting": statistics.fmean(
            max(matrix[row][i] for row in range(n - 1)) - last[i] for i in range(n - 1)
        ),
        "fwt": statistics.fmean(matrix[i - 1][i] - untrained[i] for i in range(1, n)),
        "libero_fwt": statistics.fmean(statistics.fmean(held(values)) for values in within),
        "nbt": statistics.fmean(
            statistics.fmean(matrix[k][k] - matrix[later][k] for later in range(k + 1, n))
            for k in range(n - 1)
        ),
    }


def held(values: Sequence[float]) -> list[float]:
    """Return accuracies while a task is learned, from the best one on that one.

    >>> held([0, 0.5, 0.8, 0.7])
    [0, 0.5, 0.8, 0.8]
    """
    best = max(range(len(values)), key=values.__getitem__)
    return [*values[: best + 1], *[values[best]] * (len(values) - best - 1)]


def draw(told: Mapping[str, Any], path: Path) -> None:
    """Draw the mean over clients of the matrices, and the accuracy on each task as it was learned, as PNG.

    ``told``: what ``tasks.json`` holds.
    """
    matrices = [held["matrix"] for held in told["clients"].values()]
    sizes = {len(matrix) for matrix in matrices}
    size = min(sizes)
    mean = [[statistics.fmean(m[i][j] for m in matrices) for j in range(size)] for i in range(size)]
    figure = blank(4.2, 3.8)
    axes = figure.add_subplot()
    axes.imshow(mean, vmin=0, vmax=1, cmap="Blues")
    for i, row in enumerate(mean):
        for j, value in enumerate(row):
            axes.text(j, i, f"{100 * value:.0f}", ha="center", va="center", color="w" if value > 0.6 else "k")
    axes.set(xlabel="accuracy (%) on the client's own task number", ylabel="after learning task number")
    places = [str(place + 1) for place in range(size)]
    axes.set_xticks(range(size), places)
    axes.set_yticks(range(size), places)
    axes.spines[:].set_visible(False)
    write_picture(figure, path)
