"""Spans: words that models with other tokens can compare, by hand, on the wire, and in a run."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedkt import models
from fedkt.clients.language import answers
from fedkt.data.columns.tokens import passages
from fedkt.data.sets.dataset import InputSpec
from fedkt.distill.losses import kl
from fedkt.engine.checks.checked import checked_world
from fedkt.errors import InputError
from fedkt.knowledge import encode
from fedkt.language.causal import token_log_probs, tokenised
from fedkt.language.compared import Spans
from fedkt.language.marginals import Continuations, places
from fedkt.language.spans import both, heard, said, tokens_of, words_of
from tests.tasks.test_task_contract import described, run

LENGTH = 40
WAY = Spans(top=1, places=4)


def test_the_worked_example() -> None:
    """``the cat`` as ``the| cat`` at 1/4 and 1/8, and as ``th|e| c|at`` at 1/2, 1/2, 1/4 and 1/2."""
    text = b"the cat"
    spans = words_of(text)
    assert [text[start:stop] for start, stop in spans] == [b"the", b" cat"]
    found = []
    coarse, fine = (b"the", b" cat"), (b"th", b"e", b" c", b"at")
    cases: list[tuple[tuple[bytes, ...], list[float]]]
    cases = [(coarse, [1 / 4, 1 / 8]), (fine, [1 / 2, 1 / 2, 1 / 4, 1 / 2])]
    for tokens, p in cases:
        at = places(tokens, range(len(tokens)), Continuations(tokens))
        reached = tokens_of(spans, at, len(tokens))
        found.append([math.prod(p[slice(*of)]) for of in reached if of is not None])
    assert found[0] == found[1] == [1 / 4, 1 / 8]


def test_a_token_over_an_edge_leaves_out_both_of_its_words() -> None:
    tokens = (b"the", b" cat s", b"at")
    at = places(tokens, range(3), Continuations(tokens))
    assert tokens_of(words_of(b"the cat sat"), at, 3) == [(0, 1), None, None]


def test_the_loss_is_that_of_the_span_against_anything_else() -> None:
    """P = 1/2, P' = 1/4: 1/2 ln 2 + 1/2 ln 2/3."""
    student, teacher = both(torch.tensor([0.25]).log()), both(torch.tensor([0.5]).log())
    assert kl(student, teacher).item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3), abs=1e-6)
    sure = both(torch.tensor([0.0, -1e-9, -80.0]))
    assert torch.isfinite(sure).all() and torch.isfinite(kl(sure, sure)).all()


def test_what_is_said_is_heard_within_half_a_code() -> None:
    p = torch.tensor([0.999, 0.7, 0.25, 0.01, 1e-6])
    tokens, codes = said(torch.stack([p, 1 - p], -1))
    assert tokens.dtype == codes.dtype == torch.uint8 and not tokens.any()
    back = heard(codes)
    assert back.sum(-1).tolist() == pytest.approx([1.0] * 5)
    assert (back[:, 0] / p).log().abs().max() <= 1 / 16
    assert heard(said(torch.zeros(3, 2))[1]).tolist() == [[0.0, 0.0]] * 3


@pytest.mark.parametrize("tokens", [256, 275])
def test_a_model_says_how_likely_it_finds_each_word(tokens: int) -> None:
    """As the sum of its tokens' log-probabilities, one by one; words of which nothing is asked are 0."""
    texts = np.array([b"the cat sat on the mat", b"the rule of the hat, 1911", "naïve é".encode()] * 3)
    small = {"tokens": tokens, "width": 8, "grams": [2], "hashes": 32}
    net: Any = models.build(("lm", small), InputSpec("tokens", (LENGTH,), 257), 2, 0)
    net.features.decoder.learn(list(texts), [])
    decoder = net.eval().features.decoder
    x = torch.from_numpy(passages("x", texts[:2], LENGTH))
    asked = torch.tensor([[-1, -2, -6, 0], [-4, 0, -5, 0]])  # minus one more than a word's number
    with torch.no_grad():
        found = WAY.believed(answers(net(torch.cat([x, asked], 1))[1], WAY))["values"]
    assert WAY.spoken(found).tolist() == [[True, True, True, False], [True, False, True, False]]
    for row, text in enumerate(texts[:2].tolist()):
        ids = tokenised(decoder, text)
        log_p = token_log_probs(decoder, torch.tensor([ids]))[0]
        costs, held = {}, b""
        for place, token in enumerate(ids[1:]):
            costs[len(held)] = log_p[place, token].item()
            held += decoder.token_bytes[token]
        for place, number in enumerate((-1 - asked[row]).tolist()):
            if number >= 0:
                start, stop = words_of(text)[number]
                expected = sum(cost for at, cost in costs.items() if start <= at < stop)
                assert found[row, place, 0].item() == pytest.approx(expected, abs=1e-4)


def test_a_run_of_spans_learns_and_sends_three_bytes_a_word(tmp_path: Path) -> None:
    scenario = described(
        "language", "fedmd", "data.speech={passage: 48, places: 8, compare: spans}", "rounds=1"
    )
    world = checked_world(scenario)
    expected, player = world.full_contribution("0"), world.player("0")
    asked = player.inputs(None)
    assert asked is not None
    many = len(asked)
    assert sum(math.prod(spec.shape) for spec in expected.values()) == many * 8 * 3
    net: Any = world.skeleton("0").eval()
    with torch.no_grad():
        features, logits = net(asked)
    arrays = player.extract(features, logits, {}).arrays()
    encode(arrays, expected)
    teacher = {name: torch.as_tensor(array) for name, array in arrays.items()}
    lesson = player.digest(teacher)
    assert lesson is not None
    known = lesson.rows["known"]
    assert known.sum() > 2 * many and lesson.rows["target"].shape == (many, 8, 2)
    from fedkt.client.training import ModuleForward

    rows = {**lesson.rows, "x": net.features.prepared(lesson.rows["x"])}
    with torch.no_grad():
        own = lesson.loss(ModuleForward(net), rows, {})
    assert 0 <= own.max() < 1e-3  # taught what it said itself, but for the codes' rounding
    summary = run(scenario, tmp_path / "run")
    assert summary["replies"]["accepted"] == 3 and summary["bytes"]["up"] > 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["data.speech={compare: spans, top: 4}"], "has top, of which spans have none"),
        (
            [
                "data.speech={compare: spans}",
                "privacy={mode: vote_rr, epsilon_per_vote: 1.0, max_epsilon: 1e6, delta: 1e-3}",
            ],
            "it must be bytes",
        ),
    ],
)
def test_what_spans_cannot_do_is_refused(settings: list[str], words: str) -> None:
    with pytest.raises(InputError) as raised:
        checked_world(described("language", "fedmd", *settings))
    assert words in str(raised.value)
