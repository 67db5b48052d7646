"""A client that shares its weights and learns from features that a generator makes (FedGen).

Zhu et al. 2021, "Data-Free Knowledge Distillation for Heterogeneous Federated Learning", ICML 2021,
arXiv 2105.10056, algorithm 1.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from fedkt.client import Arrays, Fit, Forward, class_counts, classification
from fedkt.client import shared_weights as weights
from fedkt.client.placing import outgoing, placed
from fedkt.distill.losses import kl
from fedkt.knowledge import Dims, Expected, Knowledge
from fedkt.knowledge.contrast import CountedWeights, GeneratorWeights
from fedkt.models.feature_nets import generator, generator_input
from fedkt.rng import torch_stream

LEAST_STRENGTH = 1e-4


class FedGenClient(weights.SharingClient):
    """Takes over the server's model, trains on private labels and made features, sends the result.

    Settings: ``alpha``, ``beta``: weights of the two terms, which fall by ``decay`` each round; ``noise``
    and ``hidden``: sizes of the generator.
    """

    sends = CountedWeights
    accepts = GeneratorWeights
    read_here = frozenset({"round", "known"})

    @staticmethod
    def contribution(dims: Dims, settings: Mapping[str, Any]) -> Expected:
        """Return every parameter of the model and the numbers of rows, in all and per class."""
        return CountedWeights.expected_of(dims)

    @staticmethod
    def teacher(dims: Dims, settings: Mapping[str, Any], *, with_rows: bool) -> Expected:
        """Return every parameter of the model and of the generator, its classes and its round."""
        module = generator(dims.classes, dims.width, settings["noise"], settings["hidden"])
        shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
        return GeneratorWeights.expected_of(dims, shapes)

    def train(self, teacher: Arrays | None) -> Fit:
        """Train on private rows, each with two made features of this round."""
        holding = self.holding
        rows = {"x": holding.x, "y": holding.y}
        made_in = 0 if teacher is None else int(teacher["round"])
        if teacher is None or made_in == 0 or not teacher["known"].any():
            return Fit("train", rows, classification, holding.local, private=True)
        told = holding.settings
        fall = told["decay"] ** made_in
        alpha, beta = (max(LEAST_STRENGTH, told[n] * fall) if told[n] else 0.0 for n in ("alpha", "beta"))
        rows |= self._made(teacher, made_in)
        return Fit("train", rows, partial(guided, alpha=alpha, beta=beta), holding.local, private=True)

    def _made(self, teacher: Arrays, made_in: int) -> dict[str, Tensor]:
        """Return made features [n, width]: of each row's own class, and of a class drawn for each row."""
        holding, dims, told = self.holding, self.holding.dims, self.holding.settings
        stream, n = torch_stream(holding.seed, "made", holding.client, made_in), len(holding.y)
        known = teacher["known"].nonzero().flatten()
        drawn = known[torch.randint(len(known), (n,), generator=stream)]
        noise = torch.rand(2 * n, told["noise"], generator=stream)
        module = generator(dims.classes, dims.width, told["noise"], told["hidden"])
        params = weights.parameters(teacher, GeneratorWeights.GENERATOR)
        [there] = placed([{"noise": noise, "drawn": drawn}], holding.x.device)
        with torch.no_grad():
            y = torch.cat([holding.y, there["drawn"]])
            made, _ = functional_call(
                module, dict(params), (generator_input(there["noise"], y, dims.classes),)
            )
        return {"like": made[:n], "made": made[n:], "made_y": there["drawn"]}

    def extract(self, features: Tensor, logits: Tensor, params: Arrays) -> Knowledge:
        """Send the weights and how many rows of each class are behind them."""
        y, sent = self.holding.y, weights.contribution(params, len(self.holding.y))
        counts = outgoing(class_counts(y, self.holding.dims.classes).int())
        return CountedWeights(sent.tensors, sent.examples, counts)


def guided(net: Forward, batch: Arrays, constants: Arrays, *, alpha: float, beta: float) -> Tensor:
    """Return CE(f(x), y) + alpha CE(h(made), made_y) + beta KL(h(like) || f(x)) per row [B].

    h is the model's head; ``made`` [B, width] are features of the classes ``made_y``, ``like`` [B, width] of
    the rows' own. The KL teaches f only, not h where it judges what was made.
    """
    _, logits = net(batch["x"])
    own = torch.nn.functional.cross_entropy(logits, batch["y"], reduction="none")
    made = torch.nn.functional.cross_entropy(net.head(batch["made"]), batch["made_y"], reduction="none")
    return own + alpha * made + beta * kl(logits, net.head(batch["like"]).detach())
