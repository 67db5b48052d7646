"""Does ``fedkt models`` find the best model that a site can afford, and at what cost?

    FEDKT_DATA=... python -m benchmarks.life.model_choice [--sets digits mnist] [--seeds 0 1 2] [--out FILE]

A cell is a data set and a budget of parameters. A site has 300 rows (400 links); what is true of a model is
its figure on the data set's test rows after the scenario's whole training on all rows of the site, mean over
the seeds, each of which is another site. A pick is right where it is within one point of the best model of
the cell, mean over seeds. Beside it what the largest model within the budget loses, and the one that DisWOT's
score names (Dong, Li, Wei 2023, "DisWOT: student architecture search for distillation without training",
CVPR; its relation part, with the largest model of all as teacher: the semantic part needs equal widths). Cost
is the processor time of the trials by that of training every model of the cell. The rule, the budgets and
the site were written down before anything was run. Prints the table of docs/results/model-choice.md; every
cell is appended to FILE as a line of JSON.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional as F

from fedkt import scenario as scenarios
from fedkt.client.behaviour import Steps
from fedkt.client.training import one_thread
from fedkt.engine.checks.checked import checked_world
from fedkt.engine.trials.candidates import Candidate, candidates
from fedkt.engine.trials.recommended import Trial, Tried, recommended
from fedkt.scenario import Scenario

BUDGETS = (3_000, 10_000)
SETS: dict[str, dict[str, Any]] = {
    "digits": {"dataset": "digits"},
    "mnist": {"dataset": "npz:mnist.npz", "image": {"size": 14, "channels": 1}},
    "fashion": {"dataset": "npz:fashion_mnist.npz", "image": {"size": 14, "channels": 1}},
    "usps": {"dataset": "npz:usps.npz"},
    "umls": {"dataset": "umls", "task": "links", "corruptions": {"ranked": 30}},
}
MODEL = {"umls": "kge"}
ROWS = {"umls": 400}
LOCAL = {"epochs": 3, "batch_size": 32, "lr": 0.002}
WITHIN = 0.01


@dataclass
class Cell:
    """``regret``: by how much a pick is below the best, mean over seeds, by who picks; ``cost``: of the
    trials, as a share of training all ``models``; ``rank``: Spearman's coefficient of a score with the
    truth."""

    data: str
    budget: int
    models: int
    best: str
    truth: float
    picks: list[str]
    regret: dict[str, float]
    cost: float
    rank: dict[str, float]


def described(data: str, seed: int) -> Scenario:
    """One site, which trains alone."""
    site = {"kind": "iid", "clients": 1, "samples_per_client": ROWS.get(data, 300)}
    return scenarios.from_dict(
        {
            "name": data,
            "data": {**SETS[data], "partition": site},
            "clients": {"models": [MODEL.get(data, "mlp")], "local": LOCAL},
            "strategy": "local",
            "rounds": 10,
            "engine": {"kind": "inline"},
            "seed": seed,
        }
    )


class Whole(NamedTuple):
    """A model after whole training: parameters, test figure, seconds, DisWOT's score before."""

    size: int
    figure: float
    seconds: float
    score: float


def trained(data: str, seed: int) -> dict[str, Whole]:
    """Return each model within the largest budget."""
    world = checked_world(described(data, seed))
    federation, (shard,) = world.federation, world.federation.shards
    steps = Steps.local(world.scenario.clients.local)
    x, y = federation.tensors(shard)
    trial = Trial((x, y), federation.test_tensors(shard), federation.task, steps, seed, shard.id)
    links, given = federation.pool.graph is not None, world.scenario.clients.models
    there = candidates(federation.input, links, federation.classes, given, seed)
    largest = max(there, key=lambda one: one.parameters)
    found = {}
    for one in there:
        if one.parameters <= max(BUDGETS):
            score = relation(one, largest, x[:64])
            tried = Tried(one)
            trial(tried, world.scenario.rounds * steps.count(len(y)))
            found[one.called] = Whole(one.parameters, tried.figure or 0.0, tried.seconds, score)
    return found


@torch.no_grad()
def relation(student: Candidate, teacher: Candidate, x: Tensor) -> float:
    """Return DisWOT's relation score of nets with random weights: how alike rows are to the two, negated."""
    return compared(*(random_weights(one.net).eval()(x)[0] for one in (teacher, student)))


def compared(teacher: Tensor, student: Tensor) -> float:
    """Return minus the mean square of the difference of both Gram matrices [rows, rows], lines of length 1.

    >>> round(compared(torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.eye(2)), 4)
    -0.1992
    """
    one, other = (F.normalize(z.flatten(1) @ z.flatten(1).T, dim=1) for z in (teacher, student))
    return -float(((one - other) ** 2).sum()) / len(one) ** 2


def random_weights(net: nn.Module) -> nn.Module:
    """Return a copy with normal weights, as DisWOT's code has it."""
    from copy import deepcopy

    net = deepcopy(net)
    generator = torch.Generator().manual_seed(0)
    for p in net.parameters():
        p.copy_(torch.randn(p.shape, generator=generator))
    return net


def cells(data: str, seeds: Sequence[int]) -> list[Cell]:
    """Return both cells of a data set."""
    with one_thread():
        runs = [trained(data, seed) for seed in seeds]
    return [_cell(data, budget, seeds, runs) for budget in BUDGETS]


def _cell(data: str, budget: int, seeds: Sequence[int], runs: list[dict[str, Whole]]) -> Cell:
    inside = [name for name, one in runs[0].items() if one.size <= budget]
    size = {name: runs[0][name].size for name in inside}
    truth = {name: float(np.mean([run[name].figure for run in runs])) for name in inside}
    best = max(inside, key=truth.__getitem__)
    picks, costs = [], []
    for seed, run in zip(seeds, runs, strict=True):
        (choice,) = recommended(described(data, seed), parameters=budget)
        picks.append(choice.tried[0].candidate.called)
        costs.append(sum(one.seconds for one in choice.tried) / sum(run[name].seconds for name in inside))
    named = {
        "trials": picks,
        "largest": [max(inside, key=size.__getitem__)],
        "diswot": [max(inside, key=lambda name: run[name].score) for run in runs],
    }
    regret = {who: float(np.mean([truth[best] - truth[name] for name in by])) for who, by in named.items()}
    scores = {
        "parameters": [np.log(size[name]) for name in inside],
        "diswot": [np.mean([run[name].score for run in runs]) for name in inside],
    }
    true = [truth[name] for name in inside]
    rank = {who: float(spearmanr(values, true)[0]) for who, values in scores.items()}
    return Cell(data, budget, len(inside), best, truth[best], picks, regret, float(np.mean(costs)), rank)


def told(found: Sequence[Cell]) -> str:
    """Return the table."""
    columns = ("data, parameters", "models", "best", "its figure", "picked", "below it: trials", "largest")
    head = f"| {' | '.join([*columns, 'DisWOT', 'cost'])} |"
    lines = [head, "|" + "---|" * 9]
    for cell in found:
        numbers = " | ".join(f"{100 * cell.regret[who]:.1f}" for who in ("trials", "largest", "diswot"))
        picked = ", ".join(dict.fromkeys(f"`{name}`" for name in cell.picks))
        lines.append(
            f"| {cell.data}, {cell.budget} | {cell.models} | `{cell.best}` "
            f"| {100 * cell.truth:.1f} | {picked} "
            f"| {numbers} | {100 * cell.cost:.0f} % |"
        )
    right = {
        who: sum(cell.regret[who] <= WITHIN for cell in found) for who in ("trials", "largest", "diswot")
    }
    ranks = {who: np.nanmean([cell.rank[who] for cell in found]) for who in ("parameters", "diswot")}
    lines.append(
        f"\nWithin one point in {right} of {len(found)} cells; Spearman with the truth, mean: {ranks}."
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    found = []
    for data in asked.sets:
        for cell in cells(data, asked.seeds):
            found.append(cell)
            print(cell, flush=True)
            if asked.out is not None:
                with asked.out.open("a") as file:
                    file.write(json.dumps(asdict(cell)) + "\n")
    print(told(found))


if __name__ == "__main__":
    main()
