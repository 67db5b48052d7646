"""ROC curves of attacks: how many members are found at which rate of false alarms, on both scales.

Carlini et al. 2022, "Membership Inference Attacks From First Principles", arXiv 2112.03570, section 3: an
attack is judged where it raises few false alarms, which only logarithmic axes show.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedkt.drawing import blank, write_picture

Curve = dict[str, list[float]]
"""``fpr`` and ``tpr``, rising from (0, 0) to (1, 1)."""


def curve(scores: NDArray[np.float64], members: NDArray[np.bool_]) -> Curve:
    """Return the ROC curve of scores [canaries], a point for each threshold.

    Equal scores are one threshold; points on a straight line between others are left out. Raises
    ValueError unless there are both members and others.
    """
    inside, outside = int(members.sum()), int((~members).sum())
    if not inside or not outside:
        raise ValueError("a ROC curve needs members and others")
    order = np.argsort(-scores, kind="stable")
    hits, alarms = np.cumsum(members[order]), np.cumsum(~members[order])
    last = np.append(np.diff(scores[order]) != 0, True)
    tpr = np.concatenate([[0.0], hits[last] / inside])
    fpr = np.concatenate([[0.0], alarms[last] / outside])
    # Where both neighbours lie on the same horizontal or vertical line, a point says nothing.
    level = np.zeros(len(tpr), bool)
    level[1:-1] = ((tpr[1:-1] == tpr[:-2]) & (tpr[1:-1] == tpr[2:])) | (
        (fpr[1:-1] == fpr[:-2]) & (fpr[1:-1] == fpr[2:])
    )
    return {"fpr": fpr[~level].tolist(), "tpr": tpr[~level].tolist()}


def draw(curves: Mapping[str, Curve], least: float, path: Path) -> None:
    """Draw curves by name, on linear and logarithmic axes; ``least``: the smallest rate that can be seen."""
    figure = blank(8, 4)
    for i, scale in enumerate(("linear", "log")):
        axes = figure.add_subplot(1, 2, 1 + i)
        for name, one in curves.items():
            axes.step(one["fpr"], one["tpr"], where="post", label=name)
        axes.plot([least, 1], [least, 1], linestyle=":", color="grey", label="guessing")
        axes.set(xlabel="false positive rate", ylabel="true positive rate", xscale=scale, yscale=scale)
        axes.set(xlim=(least if i else 0, 1), ylim=(least if i else 0, 1))
        for axis in (axes.xaxis, axes.yaxis):  # 0.01 rather than a power in mathematics, which is not drawn
            axis.set_major_formatter("{x:g}")
    axes.legend(loc="lower right")
    write_picture(figure, path)
