"""What no message of beliefs may hold, refused by who would send it and by who gets it."""

import numpy as np
import pytest

from fedkt.knowledge import Rejected, decode, encode
from fedkt.knowledge.codec import Expected


def refused_at_both_ends(
    arrays: dict[str, np.ndarray],
    expected: Expected,
    name: str,
    at: tuple[int, int],
    values: list[int],
    reason: str,
    words: str,
) -> None:
    """Put values into a place of an array of a good message, which is then neither written nor read."""
    record, wrong = encode(arrays, expected), arrays[name].copy()
    wrong[at] = values
    with pytest.raises(Rejected, match=words) as raised:
        encode({**arrays, name: wrong}, expected)
    assert raised.value.reason == reason
    data = bytes(record[name].data)
    record[name].data = data[: len(data) - wrong.nbytes] + wrong.tobytes()
    with pytest.raises(Rejected, match=words):
        decode(record, expected)
