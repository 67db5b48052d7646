"""Models that a site may choose from, and what each costs."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch

from fedkt import models
from fedkt.data.sets.dataset import InputSpec
from fedkt.errors import InputError
from fedkt.models.build import Dealt, named
from fedkt.models.net import Net, trial_rows

_CONVOLUTIONS = (((2, 4), 8), ((4, 8), 16), ((8, 16), 16), ((8, 16), 32), ((16, 32), 32), ((16, 32), 64))
_WIDTHS = (4, 8, 16, 32, 64, 128)
ZOO: dict[str, tuple[dict[str, Any], ...]] = {
    "image": (
        *({"name": "mlp", "width": width} for width in _WIDTHS),
        *({"name": "mlp", "hidden": [2 * width], "width": width} for width in (16, 32, 64)),
        *({"name": "cnn", "channels": list(channels), "width": width} for channels, width in _CONVOLUTIONS),
        *({"name": "resnet8", "width": width} for width in (8, 16, 32, 64)),
    ),
    "tabular": (
        *({"name": "mlp", "width": width} for width in _WIDTHS),
        *({"name": "tabular", "width": width} for width in _WIDTHS),
    ),
    "sparse": (
        *({"name": "mlp", "width": width} for width in (4, 8, 16, 32)),
        *({"name": "text", "width": width} for width in _WIDTHS),
    ),
    "tokens": tuple({"name": "text", "width": width} for width in _WIDTHS),
    "links": (
        *({"name": "kge", "width": width} for width in _WIDTHS[:5]),
        *({"name": "kge", "score": "mlp", "width": width} for width in _WIDTHS[:5]),
    ),
}
"""Nets of the zoo by the kind of rows, from small to large."""


class Candidate(NamedTuple):
    """A model and what it costs: ``parameters``, and ``flops`` of one row's prediction (two per product)."""

    model: Dealt
    net: Net
    parameters: int
    flops: int

    @property
    def called(self) -> str:
        """Its name with its settings, as a table has it."""
        name, settings = self.model
        told = ", ".join(f"{key}={value}" for key, value in settings.items())
        return f"{name}({told})" if told else str(name)

    @property
    def family(self) -> tuple[object, ...]:
        """What it has in common with models that are only wider: its name and its form."""
        name, settings = self.model
        sizes = {key: len(v) if isinstance(v, list | tuple) else v for key, v in settings.items()}
        return name, tuple(sorted((key, repr(v)) for key, v in sizes.items() if key != "width"))


def entering(fitting: list[Candidate], least: int = 3) -> list[Candidate]:
    """Return the models worth a trial: the largest of each family, then the next largest up to ``least``.

    Of models that differ in width alone the largest that fits was nearly always best (rank correlation of the
    logarithm of parameters with the figure 0.7 to 1, docs/results/model-choice.md), so that steps are better
    spent on telling families apart.
    """
    by_size = sorted(fitting, key=lambda one: -one.parameters)
    first = {one.family: one for one in reversed(by_size)}
    found = [one for one in by_size if first[one.family] is one]
    others = [one for one in by_size if first[one.family] is not one]
    return [*found, *others[: max(0, least - len(found))]]


def candidates(
    spec: InputSpec, links: bool, outputs: int, given: Iterable[Any], seed: int
) -> list[Candidate]:
    """Return the models ``given``, then those of the zoo for such rows, built from a seed.

    Each once: of one name and the same costs the first.
    What does not fit the rows (images that are too small) is left out, and so are estimators, which take no
    steps.
    """
    found: dict[tuple[object, int, int], Candidate] = {}
    for model in [*map(named, given), *map(named, ZOO["links" if links else spec.kind])]:
        try:
            net = models.build(model, spec, outputs, seed)
        except InputError:
            continue
        if not net.refits:
            costs = sum(p.numel() for p in net.parameters()), flops(net, spec)
            found.setdefault((model[0], *costs), Candidate(model, net, *costs))
    return list(found.values())


@torch.no_grad()
def flops(net: Net, spec: InputSpec) -> int:
    """Return the floating-point operations of predicting one row: two per product of matrices, no others."""
    from torch.utils.flop_counter import FlopCounterMode

    training = net.training
    rows = trial_rows(spec)
    with FlopCounterMode(display=False) as counter:
        net.eval()(rows)
    net.train(training)
    return int(counter.get_total_flops()) // len(rows)
