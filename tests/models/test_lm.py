"""The bundled language model as a client's model: what a passage costs, guesses, beliefs at places."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from fedkt import models
from fedkt.client.behaviour import Fit, Steps, supervised
from fedkt.client.training import fit, predict
from fedkt.data.columns.tokens import passages, text_of
from fedkt.data.sets.dataset import InputSpec
from fedkt.errors import InputError
from fedkt.language import LanguageModel
from fedkt.language.causal import token_log_probs, tokenised
from fedkt.language.topk import places_of
from fedkt.models.decoders.bundled import Decoder
from fedkt.tasks import Language

LENGTH = 40
TEXTS = np.array([b"the cat sat on the mat", b"the rule of the hat, 1911", "naïve é".encode(), b"a"] * 3)
X = torch.from_numpy(passages("x", TEXTS, LENGTH))
INPUT = InputSpec("tokens", (LENGTH,), 257)
SMALL = {"width": 8, "grams": [2, 3], "hashes": 32}


def model(tokens: int, seed: int = 0, **more: object) -> Any:
    net: Any = models.build(("lm", {"tokens": tokens, **SMALL, **more}), INPUT, 2, seed)
    net.features.decoder.learn(list(TEXTS), [])
    return net.eval()


@pytest.mark.parametrize("tokens", [256, 275])
def test_a_passage_costs_what_its_tokens_cost(tokens: int) -> None:
    net = model(tokens)
    decoder = net.features.decoder
    assert isinstance(decoder, Decoder) and isinstance(decoder, LanguageModel)
    said = predict(net, X)[1]
    for row, x in enumerate(X[:4]):
        ids = torch.tensor([tokenised(decoder, text_of(x.numpy()))])
        each = token_log_probs(decoder, ids)[0, :-1].gather(-1, ids[0, 1:, None])
        assert said[row, 0].item() == pytest.approx(-each.sum().item(), rel=1e-5)
    assert len(decoder.token_bytes) == tokens + 1 and decoder.token_bytes[-1] == b""


@pytest.mark.parametrize("tokens", [256, 275])
def test_beliefs_are_distributions_at_the_places_asked_and_do_not_look_ahead(tokens: int) -> None:
    net = model(tokens)
    places = places_of((X > 0).sum(1), 6)
    beliefs = predict(net, torch.cat([X, 1 + places], 1))[1][:, 2:].view(len(X), 6, 256)
    torch.testing.assert_close(beliefs.exp().sum(-1)[places >= 0], torch.ones(int((places >= 0).sum())))
    assert (beliefs[places < 0] == 0).all()
    changed = X.clone()
    changed[0, places[0, 2] :] = 1 + 120  # from this place on the text is another one
    if tokens == 256:
        other = predict(net, torch.cat([changed, 1 + places], 1))[1][:, 2:].view(len(X), 6, 256)
        torch.testing.assert_close(other[0, :3], beliefs[0, :3])
        assert not torch.allclose(other[0, 4], beliefs[0, 4])


def test_it_learns_and_guesses() -> None:
    net, task = model(275), Language()
    y = torch.from_numpy(task.of_rows(X.numpy()))
    before = task.measure(predict(net, X)[1], y, 2, None, None)
    phase = Fit(
        "train", {"x": X, "y": y}, lambda net, batch, _: supervised(net, batch, {}, task=task),
        Steps(40, 6, "adam", 0.02),
    )  # fmt: skip
    fit(net, phase, {}, seed=0, client="0", round_=1)
    after = task.measure(predict(net, X)[1], y, 2, None, None)
    assert before[""] is not None and before[""] > 3.5
    assert after[""] is not None and after[""] < 1
    assert after["next_byte"] is not None and after["next_byte"] > 0.9


def test_tokens_are_part_of_the_state() -> None:
    first = model(275)
    other: Any = models.build(("lm", {"tokens": 275, **SMALL}), INPUT, 2, 1).eval()
    other.load_state_dict(first.state_dict())
    assert other.features.decoder.token_bytes == first.features.decoder.token_bytes
    torch.testing.assert_close(predict(other, X)[1], predict(first, X)[1])


def test_public_tokens_do_not_depend_on_own_text() -> None:
    nets: list[Any] = [
        models.build(("lm", {"tokens": 270, "tokenizer": "public", **SMALL}), INPUT, 2, 0) for _ in range(2)
    ]
    one, two = (net.features.decoder for net in nets)
    one.learn(list(TEXTS), list(TEXTS[:2]))
    two.learn([b"others"] * 9, list(TEXTS[:2]))
    assert torch.equal(one.merges, two.merges)
    assert not one.tokens_of_own_text
    assert model(270).features.decoder.tokens_of_own_text
    assert not model(256).features.decoder.tokens_of_own_text


def test_the_places_of_next_bytes_are_those_that_are_guessed_one_by_one() -> None:
    """Of single bytes: the share of guesses that are right, by the logits themselves."""
    net = model(256, seed=3)
    ids = torch.tensor([tokenised(net.features.decoder, text_of(X[0].numpy()))])
    best = net.features.decoder(ids)[0, :-1, :256].argmax(-1)
    where = places_of((X[:1] > 0).sum(1), 16)[0]
    right = (best[where] == ids[0, 1:][where]).sum().item()
    assert predict(net, X[:1])[1][0, 1].item() == right


def test_settings_that_cannot_be_are_told_together() -> None:
    with pytest.raises(InputError) as raised:
        models.build(("lm", {"tokens": 100, "width": 9, "grams": [1], "tokenizer": "theirs"}), INPUT, 2, 0)
    assert len(raised.value.problems) == 3
    with pytest.raises(InputError, match=r"data.task must be language"):
        models.build("lm", INPUT, 3, 0)
    with pytest.raises(InputError, match=r"width of model .lm. is 9; it must be a multiple of heads, 2"):
        models.build(("lm", {"width": 9}), INPUT, 2, 0)


def test_an_empty_passage_costs_nothing() -> None:
    said = predict(model(270), torch.zeros(2, LENGTH, dtype=torch.int64))[1]
    assert said.tolist() == [[0.0, 0.0]] * 2
    assert math.isfinite(Language().row_loss(said, torch.zeros(2, 2)).sum().item())
