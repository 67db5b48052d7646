"""Text that a model writes: the likeliest, or drawn by a seed; longer than it reads at once."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from fedkt.errors import InputError
from fedkt.language.following import following
from fedkt.language.writing import written, written_by_bytes


class Steps:
    """Believes that after byte b comes b + 1 (.6), b + 2 (.3) or b + 3 (.1) of six; reads three tokens."""

    token_bytes = [bytes([97 + i]) for i in range(6)] + [b""]
    context, start = 3, 6
    seen = 0

    def encode(self, text: bytes) -> list[int]:
        return [byte - 97 for byte in text if 97 <= byte < 103]

    def __call__(self, ids: Tensor) -> Tensor:
        self.seen = max(self.seen, ids.shape[1])
        p = torch.full((*ids.shape, 7), 1e-9)
        for far, share in ((1, 0.6), (2, 0.3), (3, 0.1)):
            p.scatter_(-1, ((ids + far) % 6)[..., None], share)
        return p.log()


def test_the_likeliest_and_no_longer_a_text_than_it_reads() -> None:
    model = Steps()
    assert written(model, b"ab", 8, 0.0, torch.Generator()) == b"cdefabcd"
    assert model.seen == 3  # the end of what is there


def test_draws_follow_their_seed_and_the_temperature() -> None:
    def drawn(seed: int, temperature: float) -> bytes:
        return written(Steps(), b"", 400, temperature, torch.Generator().manual_seed(seed))

    assert drawn(0, 1.0) == drawn(0, 1.0) != drawn(1, 1.0)
    text = drawn(2, 1.0)
    ones = sum((b - a) % 6 == 1 for a, b in pairwise(text)) / 399
    assert ones == pytest.approx(0.6, abs=0.08)
    cold = drawn(2, 0.2)  # .6^5 : .3^5 is 32 : 1
    assert sum((b - a) % 6 == 1 for a, b in pairwise(cold)) / 399 > 0.93


def test_a_prompt_that_the_tokenizer_loses() -> None:
    with pytest.raises(InputError, match="tokenizer loses"):
        written(Steps(), b"a-b", 5, 1.0, torch.Generator())


class Words:
    """Tokens a, t, th, the, .1 .2 .3 .4 wherever they stand, and it reads the longest first."""

    token_bytes = (b"a", b"t", b"th", b"the", b"")
    context, start = 8, 4

    def encode(self, text: bytes) -> list[int]:
        ids = []
        while text:
            token = max((one for one in self.token_bytes if one and text.startswith(one)), key=len)
            ids.append(self.token_bytes.index(token))
            text = text[len(token) :]
        return ids

    def __call__(self, ids: Tensor) -> Tensor:
        return torch.tensor([0.1, 0.2, 0.3, 0.4, 1e-12]).log().expand(*ids.shape, 5)


@pytest.mark.parametrize("text", [b"", b"t", b"at", b"th", b"athe", b"tth"])
def test_the_next_byte_is_that_of_all_texts_that_begin_so(text: bytes) -> None:
    """Where tokens do not depend on what stands before, and the cut is right but for the last token.

    Of texts of two tokens after what is certain, their probabilities summed by the byte after ``text``.
    """
    model = Words()
    ids = model.encode(text)
    certain = b"".join(model.token_bytes[i] for i in ids[:-1])
    table = dict(zip(model.token_bytes[:4], (0.1, 0.2, 0.3, 0.4), strict=True))
    sums: dict[int, float] = {}
    for one, p in table.items():
        for two, q in table.items():
            whole = certain + one + two
            own = text == certain + one or not text or len(certain + one) > len(text)
            if own and whole.startswith(text) and len(whole) > len(text):
                sums[whole[len(text)]] = sums.get(whole[len(text)], 0.0) + p * q
    found = following(model)(text)
    assert found.sum().item() == pytest.approx(1)
    for byte, share in sums.items():
        assert found[byte].item() == pytest.approx(share / sum(sums.values()), abs=1e-6)


def test_single_bytes_are_written_as_by_tokens() -> None:
    """And where a text is longer than what is read."""
    model = Steps()
    expected = written(model, b"ab", 8, 0.0, torch.Generator())
    assert written_by_bytes(following(model), b"ab", 8, 0.0, torch.Generator()) == expected
    drawn = [
        written_by_bytes(following(model), b"a", 30, 1.0, torch.Generator().manual_seed(s)) for s in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    with pytest.raises(InputError, match="tokenizer loses"):
        written_by_bytes(following(model), b"a-b", 5, 1.0, torch.Generator())
