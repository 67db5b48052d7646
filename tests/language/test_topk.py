"""Beliefs in two bytes per named byte: codes, places, and what a receiver refuses."""

import math

import numpy as np
import pytest
import torch

from fedkt.knowledge import Dims, Rejected, TopLogits, decode, encode, size
from fedkt.language.topk import heard, places_of, said
from tests.language.refused import refused_at_both_ends

DIMS = Dims(rows=2, transfer=9, classes=2, width=2)
EXPECTED = TopLogits.expected(DIMS, top=2, places=3)


def beliefs(rows: int, places: int, seed: int = 0) -> torch.Tensor:
    draws = torch.randn(rows, places, 256, generator=torch.Generator().manual_seed(seed))
    return (3 * draws).softmax(-1)


def sent() -> dict[str, np.ndarray]:
    tokens, codes = said(beliefs(2, 3), 2)
    return {"tokens": tokens.numpy(), "codes": codes.numpy()}


def test_codes_are_sixteenths_of_a_nat_rounded_up_so_that_nothing_sums_to_more_than_one() -> None:
    tokens, codes = said(torch.tensor([0.5, 0.125, 0.375] + [0.0] * 253), top=2)
    assert tokens.tolist() == [0, 2]
    assert codes.tolist() == [math.ceil(-16 * math.log(p)) for p in (0.5, 0.375, 0.125)] == [12, 16, 34]
    total = torch.exp(-said(beliefs(50, 4), 8)[1].double() / 16).sum(-1)
    assert total.max() <= 1
    assert total.min() > math.exp(-1 / 16) - 1e-9


@pytest.mark.parametrize("top", [8, 200])
def test_a_sure_belief_beside_many_faint_ones_sums_to_one(top: int) -> None:
    sure = torch.full((1, 1, 256), 1e-9)
    sure[..., 101] = 1.0
    tokens, codes = said(sure, top)
    arrays, expected = (
        {"tokens": tokens.numpy(), "codes": codes.numpy()},
        TopLogits.expected(Dims(1, 9, 2, 2), top=top, places=1),
    )
    got = decode(encode(arrays, expected), expected)
    assert got["codes"].tolist() == codes.tolist() and got["tokens"].tolist() == tokens.tolist()


def test_what_is_heard_is_what_was_said_but_for_half_a_code_and_the_bytes_not_named() -> None:
    q = beliefs(200, 4)
    tokens, codes = said(q, 8)
    back = heard(tokens, codes)
    torch.testing.assert_close(back.sum(-1), torch.ones(200, 4))
    named = tokens.long()
    ratio = back.gather(-1, named) / q.gather(-1, named)
    assert ratio.min() > math.exp(-1 / 8) and ratio.max() < math.exp(1 / 8)
    rest = 1 - q.gather(-1, named).sum(-1)
    torch.testing.assert_close(1 - back.gather(-1, named).sum(-1), rest, atol=0.03, rtol=0)


def test_the_rest_goes_to_bytes_that_are_named_elsewhere() -> None:
    q = torch.zeros(1, 2, 256)
    q[0, 0, [101, 32]] = torch.tensor([0.6, 0.4])
    q[0, 1, [116, 120]] = torch.tensor([0.7, 0.3])
    back = heard(*said(q, 1))[0]
    assert back[1, 101] > 100 * back[1, 0]
    assert back[1, 116].item() == pytest.approx(0.7, abs=0.03)


def test_places_with_nothing_to_say_stay_empty() -> None:
    q = beliefs(1, 3)
    q[0, 2] = 0
    tokens, codes = said(q, 2)
    assert codes[0, 2].tolist() == [255, 255, 0]
    assert heard(tokens, codes)[0, 2].sum() == 0
    record = encode({"tokens": tokens.numpy(), "codes": codes.numpy()}, TopLogits.expected(
        Dims(1, 9, 2, 2), top=2, places=3))  # fmt: skip
    assert len(record) == 2


def test_places_are_spread_over_each_passage_and_differ() -> None:
    places = places_of(torch.tensor([320, 80, 81, 5, 0]), 80)
    for row, length in zip(places.tolist(), (320, 80, 81, 5, 0), strict=True):
        there = [p for p in row if p >= 0]
        assert len(there) == min(length, 80) == len(set(there))
        assert all(0 <= p < length for p in there) and there == sorted(there)


def test_a_passage_takes_less_than_a_kilobyte_and_a_half_at_eight() -> None:
    rows = 100
    expected = TopLogits.expected(Dims(rows, 1350, 2, 2), top=8, places=80)
    tokens, codes = said(beliefs(rows, 80), 8)
    arrays = {"tokens": tokens.numpy(), "codes": codes.numpy()}
    assert size(encode(arrays, expected)) == sum(spec.nbytes for spec in expected.values()) < 1500 * rows


def test_a_good_message_is_decoded_to_the_same_arrays() -> None:
    arrays = sent()
    for name, array in decode(encode(arrays, EXPECTED), EXPECTED).items():
        assert np.array_equal(array, arrays[name])


@pytest.mark.parametrize(
    ("name", "values", "reason", "words"),
    [
        ("codes", [5, 4, 255], "range", "not in order, likeliest first"),
        ("codes", [5, 5, 255], "sum", "sum to 1.46"),
        ("codes", [0, 255, 0], "sum", "sum to 2.0"),
        ("tokens", [32, 32], "sum", "names byte 32 twice at one place"),
    ],
)
def test_what_cannot_be_beliefs_is_refused_at_both_ends(
    name: str, values: list[int], reason: str, words: str
) -> None:
    refused_at_both_ends(sent(), EXPECTED, name, (1, 2), values, reason, words)


def test_bytes_at_random_are_refused_or_are_beliefs() -> None:
    rng, accepted = np.random.default_rng(0), 0
    for _ in range(300):
        arrays = {
            "tokens": rng.integers(0, 256, (2, 3, 2)).astype(np.uint8),
            "codes": np.sort(rng.integers(0, 256, (2, 3, 3)), -1).astype(np.uint8),
        }
        try:
            found = decode(encode(arrays, EXPECTED), EXPECTED)
        except Rejected:
            continue
        accepted += 1
        q = heard(*(torch.from_numpy(found[name].copy()) for name in ("tokens", "codes")))
        assert torch.isfinite(q).all() and (q >= 0).all()
    assert accepted
