"""Text that a model writes: the likeliest, or drawn by a seed; longer than it reads at once."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from fedkt.errors import InputError
from fedkt.language.writing import written


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
