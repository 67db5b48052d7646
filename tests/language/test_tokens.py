"""Tokenizers that lose nothing, and the next byte as any of them sees it, against sums done one by one."""

import itertools

import pytest
import torch

from fedkt.errors import InputError
from fedkt.language import LanguageModel
from fedkt.language.causal import token_log_probs, tokenised
from fedkt.language.marginals import Continuations, places
from fedkt.language.tokenizers import BYTES, Tokenizer, learned

TEXTS = [
    b"the cat and the hat that sat",
    b"\xff\x00 the \xc3\xa9t\xc3",
    "naïve café, the 1911 rule".encode(),
] * 3


def slowly(probabilities: dict[bytes, float], seen: bytes) -> dict[int, float]:
    """The formula of ``marginals``, token by token."""
    sums: dict[int, float] = {}
    for token, p in probabilities.items():
        if token.startswith(seen) and len(token) > len(seen):
            byte = token[len(seen)]
            sums[byte] = sums.get(byte, 0.0) + p
    total = sum(sums.values())
    return {byte: p / total for byte, p in sums.items()}


def test_the_worked_example() -> None:
    """Tokens a .1, t .2, th .3, the .4: at the boundary t has .2 + .3 + .4; after t comes h, after th e."""
    known = Continuations([b"a", b"t", b"th", b"the", b""])
    p = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.0])
    q = known.next_byte(p.expand(3, -1), torch.tensor([known.state(s) for s in (b"", b"t", b"th")]))
    assert q[0, ord("a")].item() == pytest.approx(0.1)
    assert q[0, ord("t")].item() == pytest.approx(0.9)
    assert q[1, ord("h")].item() == pytest.approx(1.0)
    assert q[2, ord("e")].item() == pytest.approx(1.0)
    assert known.state(b"the") == known.state(b"x") == -1


def test_next_bytes_are_the_sums_over_tokens_at_every_state() -> None:
    tokens = [b"".join(t) for n in (1, 2, 3) for t in itertools.product([b"a", b"b", b"\xff"], repeat=n)]
    tokens.insert(3, b"")  # a special token, which no byte leads to
    p = torch.rand(len(tokens), generator=torch.Generator().manual_seed(0)).double()
    p[3] = 0.5
    p /= p.sum()
    known = Continuations(tokens)
    table = {token: v.item() for token, v in zip(tokens, p, strict=True) if token}
    states = [s for s in [b"", *(t for t in tokens if t)] if known.state(s) >= 0]
    assert len(states) == 1 + 3 + 9
    q = known.next_byte(p.expand(len(states), -1), torch.tensor([known.state(s) for s in states]))
    torch.testing.assert_close(q.sum(-1), torch.ones(len(states), dtype=torch.float64))
    for row, seen in zip(q, states, strict=True):
        expected = slowly(table, seen)
        for byte in range(256):
            assert row[byte].item() == pytest.approx(expected.get(byte, 0.0), abs=1e-9)


def test_of_single_bytes_nothing_changes_and_gradients_flow() -> None:
    logits = torch.randn(2, 257, generator=torch.Generator().manual_seed(1), requires_grad=True)
    p = logits.softmax(-1)
    q = Continuations([*BYTES, b""]).next_byte(p, torch.zeros(2, dtype=torch.int64))
    torch.testing.assert_close(
        q, p[:, :256].double() / p[:, :256].sum(-1, keepdim=True), atol=1e-6, rtol=1e-5
    )
    q[0, 65].log().backward()
    assert logits.grad is not None and logits.grad[0, 65] > 0 and logits.grad[1].abs().sum() == 0


@pytest.mark.parametrize("size", [256, 270])
def test_every_text_comes_back_from_a_learned_tokenizer(size: int) -> None:
    tokenizer = Tokenizer(learned(TEXTS, size))
    assert len(tokenizer.token_bytes) == size
    assert len(set(tokenizer.token_bytes)) == size
    for text in [*TEXTS, bytes(range(256)), b"", b"  \n\t "]:
        ids = tokenizer.encode(text)
        assert b"".join(tokenizer.token_bytes[i] for i in ids) == text
    if size > 256:
        assert len(tokenizer.encode(b" the the")) < 8
        assert all(b" " not in token[1:] for token in tokenizer.token_bytes)


def test_what_is_learned_is_the_same_each_time_and_no_more_than_the_text_has() -> None:
    assert learned(TEXTS, 280) == learned(list(TEXTS), 280)
    assert learned([b"ab"], 300) == ()
    assert Tokenizer(learned([b"abab ab"], 300)).token_bytes[256:] == (b"ab",)
    with pytest.raises(InputError, match=r"200 tokens has not even the 256 bytes"):
        learned(TEXTS, 200)


def test_places_say_token_and_state_of_each_byte() -> None:
    tokenizer = Tokenizer(((116, 104), (256, 101)))
    known = Continuations(tokenizer.token_bytes)
    found = places(tokenizer.token_bytes, tokenizer.encode(b"the thaw"), known)
    assert found[:, 0].tolist() == [0, 0, 0, 1, 2, 2, 3, 4]
    t, th = known.state(b"t"), known.state(b"th")
    assert found[:, 1].tolist() == [0, t, th, 0, 0, t, 0, 0]


class Even:
    """Says nothing: every token alike, also the special one."""

    token_bytes, context, start = (*BYTES, b""), 5, 256

    def encode(self, text: bytes) -> list[int]:
        return list(text.lower())

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        return torch.zeros(*ids.shape, 257)


def test_a_model_is_asked_for_texts_that_it_can_hold_and_gives_back() -> None:
    model = Even()
    assert isinstance(model, LanguageModel)
    assert tokenised(model, b"abcd") == [256, *b"abcd"]
    with pytest.raises(InputError, match=r"byte 1 is 0x42 but comes back as 0x62\.$"):
        tokenised(model, b"aB")
    with pytest.raises(InputError, match=r"5 bytes has 5 tokens, but the model reads at most 4"):
        tokenised(model, b"abcde")
    said = token_log_probs(model, torch.tensor([[256, 97]]))
    assert said[0, 0, 256] == -torch.inf
    torch.testing.assert_close(said[0, 1, :256].exp(), torch.full((256,), 1 / 256))
