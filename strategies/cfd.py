"""CFD: clients send one-bit labels; the server distils a model of them and sends back its labels.

Sattler, Marban, Rischke, Samek 2020, "Communication-Efficient Federated Distillation", arXiv 2012.00632;
2022 as "CFD: Communication-Efficient Federated Distillation via Soft-Label Quantization and Delta Coding".

The server's model learns from the mean of the clients' quantised predictions and is kept between rounds;
clients learn from *its* quantised predictions (dual distillation).

What differs from the paper:

1. Changes are coded against the labels that the client got last, which both ends hold for sure, instead of
   against its own last ones; so nothing is lost with a reply. Down, labels are sent whole, since the clients
   hold different last ones after an absence. Where rows are chosen anew each round, both are sent whole.
2. zlib (Huffman codes and repeats) stands for the arithmetic coder; bytes are those that crossed the wire.
3. A client keeps its own model between rounds instead of starting from random weights in each.
"""

from typing import Any

import torch
from pydantic import Field

from fedkt import models
from fedkt.client import Fit
from fedkt.errors import InputError
from fedkt.knowledge.quantise import in_bits, probabilities, quantise, restore, stored
from fedkt.strategy import Contributions, Fused, Setting, Strategy, StrategyConfig, idle
from fedkt.strategy.fusing.server_model import build, lesson, lesson_settings, steps_of


class CFDConfig(StrategyConfig):
    """Settings of CFD."""

    bits_up: int = Field(1, ge=1, le=8)
    """Bits per class of what clients send; one leaves the most probable class alone (the paper's choice)."""
    bits_down: int = Field(1, ge=1, le=8)
    """Bits per class of what the server sends."""
    delta: bool = True
    """Whether clients send changes; false: all labels each round."""


class CFD(Strategy):
    """Give every client the labels of a server model that learned from all clients' labels."""

    one_class = "it quantises distributions over classes"
    client = "quantised"
    needs_transfer = True
    Config = CFDConfig
    config: CFDConfig

    def __init__(self, config: StrategyConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.simplex = True  # what is decoded
        setting.transfer_x()  # refused now rather than in the first round
        self._classes = next(iter(setting.dims.values())).classes
        if self.student is None:
            likely = models.deal(setting.scenario.clients.models, 1, setting.seed)
            for model in [*likely, *setting.models.values()]:
                if not models.build(model, setting.input, self._classes, 0).refits:
                    self.student = build(model, setting.input, self._classes, setting.seed)
                    break
            else:
                raise InputError(
                    "strategy 'cfd' trains a model at the server from round to round, but all of "
                    "clients.models are estimators; name a net as server_model.model."
                )

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Tell the client how to code."""
        return {
            "form": "quantised",
            "bits_up": config.bits_up,
            "bits_down": config.bits_down,
            "delta": config.delta,
        }

    @classmethod
    def problems(cls, config: Any, scenario: Any, clients: int) -> list[str]:
        """Refuse a word about changes where all labels are sent whole."""
        transfer = scenario.data.transfer
        chosen = transfer is not None and transfer.asked > 0
        if transfer is not None and transfer.fresh and config.delta and not chosen:
            return [
                "strategy.delta sends how labels differ from those of the round before, but "
                "data.transfer.refresh "
                "is round, so that the rows are others; set it to false."
            ]
        return (
            idle(config, "where each round asks for other rows (data.transfer.rows)", "delta")
            if chosen
            else []
        )

    def decode(self, contributions: Contributions) -> Contributions:
        """Return probabilities [clients, rows, classes], without clients whose base is not the teacher."""
        up, base, teacher = self.config.bits_up, contributions.arrays["base"], self.teachers.common or {}
        newest = int(teacher.get("base", 0))
        symbols, changes = contributions.values.long(), (base == newest) & (base > 0)
        if changes.any():
            known = in_bits(teacher["values"], self.config.bits_down, up, self._classes)
            symbols[changes] = restore(symbols[changes], known, up, self._classes)
        kept = (changes | (base == 0)).nonzero()[:, 0].tolist()
        clients = tuple(contributions.clients[i] for i in kept)
        values = probabilities(symbols[kept], up, self._classes)
        return Contributions(clients, {"values": values}, contributions.rows)

    def fuse(self, contributions: Contributions) -> Fused:
        """Distil the mean prediction into the server's model and quantise what that says."""
        assert self.student is not None
        x = self.setting.transfer_x(self.round)
        x = x if contributions.rows is None else x[contributions.rows.long()]
        mean = self.centre(contributions.values)
        scenario = self.setting.scenario
        told = lesson_settings(scenario, self.client_settings)
        phase = lesson(x, mean, told, steps_of(scenario), logits=False)
        self.student.fit(phase, self.setting.seed, self.round)
        beliefs = self.student.predict(x).softmax(-1)
        down = self.config.bits_down
        symbols = quantise(beliefs, down)
        agreement = (quantise(mean, 1) == beliefs.argmax(-1)).float().mean().item()
        arrays = {
            "values": stored(symbols, down, self._classes),
            "base": torch.tensor(self.round, dtype=torch.int32),
        }
        return Fused(arrays, report={"agreement": agreement}, beliefs=beliefs)

    def server_lesson(self, fused: Fused) -> Fit | None:
        """Return nothing: the server's model has learned already."""
        return None
