"""Canaries of text: what is planted, and what a client's beliefs tell of secrets, by hand."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fedkt.engine.audits.exposed import DIGITS, Canaries, Listener
from fedkt.knowledge import Contributions
from fedkt.language.compared import compared_by
from fedkt.language.strings import number
from fedkt.privacy.attacks.exposure import Space
from fedkt.rng import numpy_stream
from fedkt.tasks import Language

PLACES = 12


def two(secret: int = 42) -> Canaries:
    """The sentences "key A is ??." (read twice) and "key B is ??." (nobody reads it)."""
    spaces = tuple(Space(f"key {name} is ".encode(), DIGITS, 2, b".") for name in "AB")
    secrets, members = np.array([secret, 7]), np.array([True, False])
    return Canaries(spaces, secrets, members, np.array([3, 0]), 2)


def beliefs(canaries: Canaries, first: dict[int, float], second: dict[int, float]) -> np.ndarray:
    """What a client says that believes these of the first digit of A, and of the second one after a 4."""
    said = np.full((len(canaries.probes), PLACES, 256), 1 / 256)
    for probe in range(10):
        said[probe, 9] = said[probe, 10] = 0.01
        for digit, p in first.items():
            said[probe, 9, DIGITS[digit]] = p
    for digit, p in second.items():
        said[4, 10, DIGITS[digit]] = p
    return said


def test_what_is_read_and_what_is_asked() -> None:
    """Each digit stands once at each place of a canary's probes, so they say nothing of its secret."""
    canaries = two()
    assert canaries.read == [b"key A is 42."] * 2
    assert canaries.probes[:3] == [b"key A is 03.", b"key A is 14.", b"key A is 25."]
    for of_one in (canaries.probes[:10], canaries.probes[10:]):
        for place in (9, 10):
            assert sorted(text[place] for text in of_one) == list(DIGITS)


def test_the_likelihood_of_every_secret_is_told() -> None:
    """.5 of a 4 and then .8 of a 2: .4 for 42; others .01 each at either place."""
    canaries = two()
    found = canaries.told(beliefs(canaries, {4: 0.5}, {2: 0.8}), np.arange(5, 25), PLACES, 5)
    assert found.shape == (2, 100)
    assert np.exp(found[0, [42, 41, 12, 99]]) == pytest.approx([0.4, 0.005, 0.0001, 0.0001])
    # 42 is first of A; of B all are alike, and ties count against the attacker.
    assert canaries.exposures(found) == {"members": pytest.approx(np.log2(100)), "others": 0.0}
    # With secret 12 ranks 12 and below are those that begin with a 4 (10), then all that are alike.
    told = two(secret=12).exposures(found)
    assert told["members"] == 0.0


def test_what_nobody_said_anything_of_tells_nothing() -> None:
    """No passage of A was spoken of: its secrets are all alike, .1 for the digit behind."""
    canaries = two()
    some = beliefs(canaries, {4: 0.5}, {2: 0.8})[10:]
    found = canaries.told(some, np.arange(15, 25), PLACES, 5)
    assert np.ptp(found[0]) == 0 and np.isfinite(found).all()
    # A place that a client left empty is none either.
    said = beliefs(canaries, {4: 0.5}, {2: 0.8})
    said[:, 9] = 0
    found = canaries.told(said, np.arange(5, 25), PLACES, 5)
    assert np.exp(found[0, 42] - found[0, [41, 12]]) == pytest.approx([80, 80])


def test_canaries_are_drawn_apart() -> None:
    """Names of rooms differ; coins are fair enough that some are read and some are not."""
    canaries = Canaries.drawn(40, 8, numpy_stream(1, "coins"))
    assert len({space.before for space in canaries.spaces}) == 40
    assert 0 < canaries.members.sum() < 40 and len(canaries.read) == 8 * canaries.members.sum()
    assert len(set(canaries.secrets.tolist())) > 20


def test_of_tokens_an_audit_hears_the_next_bytes() -> None:
    """A client says of four fifths of what it believes of a 4 that it goes on with a 2."""
    canaries, values = two(), torch.from_numpy(beliefs(two(), {4: 0.5}, {2: 0.8})).float()
    values /= values.sum(-1, keepdim=True)
    cells, strings = torch.nn.functional.pad(values, (0, 8)), torch.zeros(len(values), PLACES, 8).long()
    cells[:10, 9, 256], strings[:10, 9, 0] = 0.8 * values[:10, 9, DIGITS[4]], number(b"42")
    cells[:10, 9, DIGITS[4]] *= 0.2
    heard = {}
    for name, said in (("tokens", {"values": cells, "strings": strings}), ("bytes", {"values": values})):
        settings = {"form": "probabilities", "places": PLACES, "top": 8, "compare": name}
        arrays = {key: array[None] for key, array in compared_by(settings).said(said).items()}
        about = SimpleNamespace(transfer=np.zeros((20, 16)), task=Language())
        world: Any = SimpleNamespace(federation=about, settings=settings)
        listener = Listener(world, canaries)
        listener(1, Language().opened(Contributions(("0",), arrays), settings))
        heard[name] = listener.heard["0"][0]
    assert heard["bytes"].argmax() == heard["tokens"].argmax() == 42
    assert np.abs(heard["tokens"] - heard["bytes"])[[42, 41]].max() < 1 / 8
