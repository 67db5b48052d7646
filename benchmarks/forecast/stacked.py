"""Many made federations at once: their clients' models are one stack, so that hundreds take minutes.

The engine trains one federation after the other, which is what ``run`` in ``runs.py`` does. Here a group of
four shares numbers of clients, classes, rows and steps, and every step is one for all their clients. Fusion
is the strategies' own, the losses are the registered ones; training is as the engine's but for batches, which
are drawn with replacement. Models are perceptrons of 64, 32 or 16 hidden units, made of one size by a mask,
with none to two layers before; a federation's are equally deep or not.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from benchmarks.forecast.made import Group, draw_group
from benchmarks.forecast.runs import Cell
from fedkt import registry
from fedkt.client.familiarity import log_ratio
from fedkt.distill.losses import as_logits
from fedkt.knowledge.contributions import Contributions
from fedkt.knowledge.kinds import MOST_DENSE, Dims
from fedkt.rng import torch_stream
from fedkt.scenario import from_dict
from fedkt.strategy.base import Strategy
from fedkt.strategy.fusing.evidence import evidence_of
from fedkt.strategy.fusing.fusion import Fused
from fedkt.strategy.rounds.given import Setting

UNITS, BATCH = 64, 16
DEEPEST = 2
"""Most layers before the last hidden one."""
Params = dict[str, Tensor]
ALL = slice(None)


def group_runs(seed: int, cells: list[Cell]) -> Iterator[dict[str, Any]]:
    """Yield a line for each client, federation and cell of a group, as ``client_runs`` does."""
    group = draw_group(seed)
    alone = Stack(group, ("local", False)).run()
    for cell in cells:
        stack = Stack(group, cell)
        reached = stack.run()
        for f in range(group.federations):
            for n in range(group.clients):
                gained = {what: float(reached[what][f, n] - alone[what][f, n]) for what in alone}
                told = [round(value, 6) for value in stack.evidence[f][n].tolist()]
                yield {
                    "scenario": f"made-{seed}-{f}",
                    "seed": seed,
                    "overrides": [],
                    "strategy": cell[0],
                    "together": cell[1],
                    "client": str(n),
                    "evidence": told,
                    **gained,
                }


@dataclass
class Stack:
    """The clients of a group's federations, as they are trained with one strategy."""

    group: Group
    cell: Cell

    def __post_init__(self) -> None:
        group = self.group
        self.stream = torch_stream(group.seed, "stack")
        self.distil_steps = group.distil_epochs * -(-group.rows // group.distil_batch)
        first = torch_stream(group.seed, "models")
        models = group.federations * group.clients
        self.params: Params = {}
        for name, before, after in self._layers():
            held = before**-0.5  # as torch.nn.Linear begins
            for what, rows in (("w", before), ("b", 1)):
                drawn = torch.rand(models, rows, after, generator=first)
                self.params[what + name] = held * (2 * drawn - 1)
        units = torch.tensor([64, 32, 16])[torch.randint(3, (models,), generator=first)]
        self.mask = (torch.arange(UNITS) < units[:, None]).float()[:, None]
        alike = torch.randint(DEEPEST + 2, (group.federations,), generator=first)
        alike = alike.repeat_interleave(group.clients)
        each = torch.randint(DEEPEST + 1, (models,), generator=first)
        self.depth = torch.where(alike > DEEPEST, each, alike)[:, None, None]
        for held in self.params.values():
            held.requires_grad_()
        self.training, self.digestion = (
            torch.optim.Adam(self.params.values(), lr=group.lr) for _ in range(2)
        )
        self.evidence: list[Tensor] = []
        self.strategies = (
            [] if self.cell[0] == "local" else [self._strategy() for _ in range(group.federations)]
        )

    def run(self) -> dict[str, Tensor]:
        """Train and exchange for all rounds; return both accuracies [federations, clients]."""
        group, together = self.group, self.cell[1]
        teachers: Tensor | None = None
        for _ in range(group.rounds):
            # Whom nobody has taught yet trains no fewer steps than distillation takes.
            first = max(group.steps, self.distil_steps) if together and teachers is None else group.steps
            self._train(first, self.training, private=True, teachers=teachers if together else None)
            if self.strategies:
                teachers = self._exchange()
                self._train(self.distil_steps, self.digestion, teachers=teachers)
        return self._accuracies()

    def _layers(self) -> list[tuple[str, int, int]]:
        """Return each layer's name, and how many numbers go in and come out."""
        pixels = self.group.x.shape[-1]
        before = [(f" before {i}", pixels, pixels) for i in range(DEEPEST)]
        return [*before, (" hidden", pixels, UNITS), (" head", UNITS, self.group.classes)]

    def _layer(self, name: str, x: Tensor, which: slice = ALL) -> Tensor:
        return x @ self.params[f"w {name}"][which] + self.params[f"b {name}"][which]

    def _features(self, x: Tensor, which: slice = ALL) -> Tensor:
        """Return the last hidden units [models, rows, UNITS] of the models ``which``."""
        for i in range(DEEPEST):
            x = torch.where(self.depth[which] > i, self._layer(f"before {i}", x, which).relu(), x)
        return self._layer("hidden", x, which).relu() * self.mask[which]

    def _logits(self, x: Tensor) -> Tensor:
        return self._layer("head", self._features(x))

    def _train(
        self,
        steps: int,
        optimizer: torch.optim.Optimizer,
        *,
        private: bool = False,
        teachers: Tensor | None = None,
    ) -> None:
        """Take steps on private rows, on transfer rows where there are ``teachers``, or on both.

        ``teachers`` [models, rows, classes] are logits. Beside private rows there are at most half as many
        others, as in :func:`fedkt.client.joint.joined`.
        """
        group = self.group
        beside = min(group.distil_batch, BATCH // 2) if private else group.distil_batch
        models = torch.arange(len(self.mask))[:, None]
        for _ in range(steps):
            loss = torch.zeros(())
            if private:
                drawn = torch.rand(len(self.mask), BATCH, generator=self.stream)
                at = (drawn * group.counts[:, None]).long()
                logits = self._logits(group.x[models, at])
                loss = (
                    loss
                    + torch.nn.functional.cross_entropy(
                        logits.flatten(0, 1), group.y[models, at].flatten(), reduction="sum"
                    )
                    / BATCH
                )
            if teachers is not None:
                at = torch.randint(group.rows, (len(self.mask), beside), generator=self.stream)
                logits = self._logits(self._transfer()[models, at])
                rows = self.loss(logits.flatten(0, 1), teachers[models, at].flatten(0, 1), 1.0)
                loss = loss + rows.sum() / beside
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def _transfer(self) -> Tensor:
        return self.group.transfer.repeat_interleave(self.group.clients, 0)

    @torch.no_grad()
    def _exchange(self) -> Tensor:
        """Fuse each federation's predictions; return the teachers' logits [models, rows, classes]."""
        group, found = self.group, []
        features = self._features(self._transfer())
        logits = self._layer("head", features)
        for f, strategy in enumerate(self.strategies):
            here = slice(f * group.clients, (f + 1) * group.clients)
            form, settings = strategy.client_settings["form"], strategy.client_settings
            arrays = {"values": logits[here] if form == "logits" else logits[here].softmax(-1)}
            if "density" in settings:
                arrays["density"] = torch.stack(
                    [self._density(m, features[m], settings["density"]) for m in range(here.start, here.stop)]
                )
            known = Contributions(tuple(map(str, range(group.clients))), arrays)
            fused: Fused | None = strategy.fuse(known)
            assert fused is not None
            if len(self.evidence) < group.federations:
                scenario = strategy.setting.scenario
                self.evidence.append(evidence_of(known, fused, form, scenario, together=self.cell[1]))
            values = torch.stack([teacher["values"] for teacher in fused.teachers]).expand_as(
                arrays["values"]
            )
            found.append(values if form == "logits" else as_logits(values))
        return torch.cat(found)

    def _density(self, model: int, other: Tensor, ridge: float) -> Tensor:
        own = self.group.x[model, : int(self.group.counts[model])]
        (features,) = self._features(own[None], slice(model, model + 1))
        return log_ratio(other, features, ridge).clamp(-MOST_DENSE, MOST_DENSE)

    @torch.no_grad()
    def _accuracies(self) -> dict[str, Tensor]:
        """Return both accuracies; the prior is added for personal ones where the strategy has it decide."""
        group = self.group
        logits = self._logits(group.test_x.repeat_interleave(group.clients, 0))
        y = group.test_y.repeat_interleave(group.clients, 0)
        own = logits
        if self.strategies and self.strategies[0].client_settings.get("prior", False):
            own = logits + (group.shares + 0.5 / group.counts[:, None]).log()[:, None]
        weights = group.own_weights / group.own_weights.sum(-1, keepdim=True)
        right = ((own.argmax(-1) == y) * weights).sum(-1)
        shape = (group.federations, group.clients)
        common = (logits.argmax(-1) == y).double().mean(-1)
        return {"personal": right.view(shape), "global": common.view(shape)}

    def _strategy(self) -> Strategy:
        """Return the strategy as its server would hold it."""
        group, name = self.group, self.cell[0]
        kind: type[Strategy] = registry.find("strategies", name)
        described = from_dict(
            {
                "name": "made",
                "data": {"transfer": {"size": group.rows}},
                "clients": {"distill": {"epochs": group.distil_epochs, "batch_size": group.distil_batch}},
                "strategy": {"name": name},
                "rounds": group.rounds,
            }
        )
        dims = {str(n): Dims(group.rows, group.rows, group.classes, UNITS) for n in range(group.clients)}
        made = kind(kind.Config(), Setting(described, "made", dims, "", SimpleNamespace()))  # type: ignore[arg-type]
        self.loss: Callable[..., Tensor] = registry.find("losses", made.client_settings["loss"])
        return made
