"""Tokens by their bytes: cells by hand, on the wire, fused, and as models say and compare them."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedkt import models
from fedkt.client.training import ModuleForward
from fedkt.clients.language import answers, compared
from fedkt.data.columns.tokens import passages
from fedkt.data.sets.dataset import InputSpec
from fedkt.distill.losses import kl
from fedkt.engine.checks.checked import checked_world
from fedkt.errors import InputError
from fedkt.knowledge import Contributions, Dims, TopLogits, decode, encode
from fedkt.language.causal import token_log_probs, tokenised
from fedkt.language.compared import NextBytes, Strings
from fedkt.language.strings import cells, folded, joined, next_bytes, number, parents, spelled, string, united
from fedkt.language.topk import places_of
from fedkt.tasks import Language
from tests.language.refused import refused_at_both_ends
from tests.tasks.test_task_contract import described, run

LENGTH, PLACES = 40, 12
TEXTS = np.array([b"the cat sat on the mat", b"the rule of the hat, 1911", "naïve é".encode(), b"a"] * 3)
X = torch.from_numpy(passages("x", TEXTS, LENGTH))
Table = dict[bytes, float]


def numbers(*held: bytes) -> torch.Tensor:
    return torch.tensor([number(one) for one in held])


def cells_of(tokens: Table, named: list[bytes]) -> torch.Tensor:
    """The cells of a model at a boundary, token by token: each in the longest named string that begins it."""
    found = torch.zeros(256 + len(named), dtype=torch.float64)
    for token, p in tokens.items():
        begun = [i for i, one in enumerate(named) if token.startswith(one)]
        found[256 + max(begun, key=lambda i: len(named[i])) if begun else token[0]] += p
    return found


def divergence(p: torch.Tensor, q: torch.Tensor) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p.tolist(), q.tolist(), strict=True) if a > 0)


TEACHER: Table = {b"a": 0.1, b"t": 0.1, b"th": 0.2, b"the": 0.3, b"to": 0.3}
STUDENT: Table = {b"a": 0.2, b"t": 0.2, b"the": 0.4, b"to": 0.2}
NAMED = [b"the", b"to", b"th"]


def test_the_worked_example() -> None:
    """KL of the module's docstring, by the loss that students learn by; of next bytes alone 0.0367."""
    way, student = Strings(top=3, places=1), cells_of(STUDENT, [b"the", b"to"])
    beliefs = torch.cat([student.clamp(min=1e-9).log(), torch.tensor([0.0])])  # it has no token th
    believed = way.believed(beliefs.view(1, 1, -1))["values"]
    told = {"strings": numbers(*NAMED).view(1, 1, 3)}
    logits = cells_of(TEACHER, NAMED).clamp(min=1e-9).log().view(1, 1, -1)
    target, known = way.fitted(logits, torch.ones(1, 1), told, believed, 1.0)
    by_hand = 0.3 * math.log(0.3 / 0.4) + 2 * 0.3 * math.log(0.3 / 0.2) + 0.1 * math.log(0.1 / 0.2)
    assert by_hand == pytest.approx(0.0877, abs=5e-5)
    assert kl(believed[0], target[0]).item() == pytest.approx(by_hand, abs=1e-6)
    assert known.tolist() == [[1.0]]
    assert target.exp()[0, 0, [97, 116, 256, 257, 258]].tolist() == pytest.approx(
        [0.1, 0.3, 0.3, 0.3, 0.0], abs=1e-6
    )
    of_bytes = [cells_of(tokens, []) for tokens in (TEACHER, STUDENT)]
    assert divergence(*of_bytes) == pytest.approx(0.0367, abs=5e-5) and divergence(*of_bytes) < by_hand


def test_the_same_tokens_are_compared_exactly() -> None:
    """Where no token that is named goes on with one that is not: the plain divergence of tokens."""
    other: Table = {b"a": 0.3, b"t": 0.1, b"th": 0.1, b"the": 0.2, b"to": 0.3}
    p, q = (cells_of(tokens, NAMED) for tokens in (TEACHER, other))
    plain = sum(p * math.log(p / other[token]) for token, p in TEACHER.items())
    assert divergence(p, q) == pytest.approx(plain)


def test_cells_are_what_is_left_of_each_string_and_byte() -> None:
    held = numbers(*NAMED)
    begun = torch.tensor([0.3, 0.3, 0.5], dtype=torch.float64)  # the, to, th with the
    following = cells_of(TEACHER, [])
    found = cells(following, begun, parents(held, held > 0))
    torch.testing.assert_close(found, cells_of(TEACHER, NAMED))
    torch.testing.assert_close(next_bytes(found, held), following)
    kept = torch.tensor([True, False, False])
    torch.testing.assert_close(folded(found, held, kept)[:257], cells_of(TEACHER, [b"the"]))


def test_strings_are_numbers_and_floats_hold_them() -> None:
    held = [b"ab", b"\x00\xff", b"\x00\x00\x00", b"sevenby", "é".encode()]
    strings = numbers(*held)
    assert [string(int(one)) for one in joined(spelled(strings).float())] == held
    assert number(b"ab") != number(b"ab\x00")
    found = parents(numbers(b"ab\x00", b"ab", b"abc"), torch.tensor([True, True, True]))
    assert found.tolist() == [257, 97, 257]


# The wire ------------------------------------------------------------------------------------------------

EXPECTED = TopLogits.expected(Dims(rows=2, transfer=9, classes=2, width=2), top=3, places=1, strings=3)


def beliefs(rows: int = 1) -> dict[str, torch.Tensor]:
    """Of a teacher at the first place, of one whose token goes on at the second."""
    values = torch.stack(
        [cells_of(TEACHER, NAMED), torch.cat([cells_of(STUDENT, []), torch.zeros(3)])]
    ).float()
    strings = torch.stack([numbers(*NAMED), torch.zeros(3, dtype=torch.int64)])
    return {"values": values.repeat(rows, 1)[:, None], "strings": strings.repeat(rows, 1)[:, None]}


def test_what_is_said_is_heard_within_half_a_code() -> None:
    """Codes by hand, -16 ln p rounded up: t and a of .1; the, to .3 and th .2."""
    way, told = Strings(top=3, places=1), beliefs()
    sent = way.said(told)
    assert sent["tokens"][0, 0, :2].tolist() == [116, 97]  # t is the likelier byte
    assert sent["codes"][0, 0].tolist() == [37, 37, 255, 20, 20, 26, 255]
    assert sent["codes"][1, 0].tolist() == [4, 26, 255, 255, 255, 255, 255]
    arrays = {name: array.numpy() for name, array in sent.items()}
    heard = way.heard(
        {k: torch.from_numpy(v.copy()) for k, v in decode(encode(arrays, EXPECTED), EXPECTED).items()}
    )
    torch.testing.assert_close(heard["values"].sum(-1), torch.ones(2, 1))
    held = told["values"] > 0.05
    ratio = heard["values"][..., :256][held[..., :256]] / told["values"][..., :256][held[..., :256]]
    assert (ratio.log().abs() < 1 / 16).all()
    by_string = [
        dict(zip(one["strings"][0, 0].tolist(), one["values"][0, 0, 256:].tolist(), strict=True))
        for one in (told, heard)
    ]
    assert by_string[0].keys() == by_string[1].keys()
    assert all(by_string[1][key] == pytest.approx(p, rel=1 / 16) for key, p in by_string[0].items())
    # And of a place of which nothing is said.
    nothing = way.said({"values": torch.zeros(1, 259), "strings": torch.zeros(1, 3, dtype=torch.int64)})
    assert way.heard(nothing)["values"].sum() == 0


def test_next_bytes_are_heard_as_if_they_alone_were_said() -> None:
    draws = torch.randn(40, 2000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    strings = numbers(*(bytes([97 + i, 98 + i]) for i in range(8))).expand(40, 8)
    values = (3 * draws[:, :264]).softmax(-1).float()
    way = Strings(top=8, places=1)
    told = next_bytes(values, strings)
    heard = way.next_bytes(way.heard(way.said({"values": values, "strings": strings})))
    alone = NextBytes(8, 1).heard(NextBytes(8, 1).said({"values": told}))["values"]
    named = told.topk(8).indices
    torch.testing.assert_close(heard.gather(-1, named), alone.gather(-1, named), atol=0.02, rtol=0.13)


@pytest.mark.parametrize(
    ("name", "values", "reason", "words"),
    [
        ("codes", [4, 3, 255, 20, 20, 26, 255], "range", "not in order, likeliest first"),
        ("codes", [37, 37, 255, 26, 20, 255, 255], "range", "not in order, likeliest first"),
        ("codes", [9, 255, 255, 9, 255, 255, 255], "sum", "sum to 1.13"),
        ("tokens", [32, 32, 1], "sum", "names byte 32 twice"),
        ("strings", [number(b"th"), number(b"th"), 0], "sum", "names b'th' twice at one place"),
        ("strings", [number(b"t"), 0, 0], "range", "a string of 1 bytes; it must have 2 to 7"),
        ("strings", [1, 0, 0], "range", "a string of 0 bytes"),
        ("strings", [number(b"the") - (1 << 56), 0, 0], "range", "2 bytes with more behind them"),
        ("strings", [number(b"th") + (6 << 56), 0, 0], "range", r"spans \["),
        ("strings", [-1, 0, 0], "range", r"spans \["),
    ],
)
def test_what_cannot_be_strings_is_refused_at_both_ends(
    name: str, values: list[int], reason: str, words: str
) -> None:
    arrays = {key: array.numpy() for key, array in Strings(3, 1).said(beliefs()).items()}
    refused_at_both_ends(arrays, EXPECTED, name, (1, 0), values, reason, words)


# Fusing --------------------------------------------------------------------------------------------------


def three() -> tuple[torch.Tensor, torch.Tensor]:
    """The teacher, one without ``th`` that names ``the`` and ``to``, one of single bytes; at one place."""
    coarse = torch.cat([cells_of({b"a": 0.5, b"t": 0.5}, []), torch.zeros(3)])
    other = torch.cat([cells_of(STUDENT, [b"to", b"the"]), torch.zeros(1)])
    values = torch.stack([cells_of(TEACHER, NAMED), other, coarse])[:, None]
    none = torch.zeros(3, dtype=torch.int64)
    return values, torch.stack([numbers(*NAMED), torch.cat([numbers(b"to", b"the"), none[:1]]), none])[
        :, None
    ]


def test_parties_are_brought_to_the_same_strings_without_touching_their_next_bytes() -> None:
    values, strings = three()
    found, common = united(values, strings)
    assert [string(int(one)) for one in common[0]] == [b"the", b"to", b"th"]
    torch.testing.assert_close(found.sum(-1), torch.ones(3, 1, dtype=torch.float64))
    for own, its, now in zip(values, strings, found, strict=True):
        torch.testing.assert_close(next_bytes(now, common), next_bytes(own, its))
    torch.testing.assert_close(found[0], values[0])  # it has named them all
    assert found[1, 0, 256:258].tolist() == pytest.approx([0.4, 0.2])
    assert 0 < found[1, 0, 258] < 0.2  # of its t as much is th as others say
    assert (found[2, 0, 256:] > 0).all() and found[2, 0, 97] == 0.5
    one, two = united(values.flip(0), strings.flip(0))
    torch.testing.assert_close(one.flip(0), found) and torch.equal(two, common)


def test_who_says_nothing_of_a_place_goes_on_saying_nothing() -> None:
    values, strings = three()
    values[2] = 0
    found, _ = united(values, strings)
    assert not found[2].any() and torch.isfinite(found).all()
    alone, none = united(values[2:], strings[2:])
    assert not alone.any() and not none.any()


def test_what_is_fused_is_written_with_its_strings() -> None:
    settings = {"form": "probabilities", "top": 3, "places": 1, "compare": "tokens"}
    way, (values, strings) = Strings(3, 1), three()
    each = [
        way.said({"values": v[None].float(), "strings": s[None]})
        for v, s in zip(values, strings, strict=True)
    ]
    arrays = {name: torch.stack([one[name] for one in each]) for name in each[0]}
    opened = Language().opened(Contributions(("0", "1", "2"), arrays), settings)
    assert opened.values.shape == (3, 1, 259) and opened.arrays["strings"].shape == (3, 1, 3)
    mean = opened.values.mean(0)
    back = way.heard(Language().written({"values": mean}, settings, opened.arrays))
    assert set(back["strings"].flatten().tolist()) == {number(one) for one in NAMED}
    fused = Language().next_bytes(opened.arrays, settings)
    torch.testing.assert_close(
        fused.mean(0)[0, [97, 116]], next_bytes(mean, opened.arrays["strings"][0])[0, [97, 116]]
    )
    geometric = {**settings, "form": "logits"}
    logs = Language().opened(Contributions(("0", "1", "2"), arrays), geometric)
    again = way.heard(Language().written({"values": logs.values.mean(0)}, geometric, logs.arrays))
    assert again["values"].sum(-1).tolist() == [[pytest.approx(1.0)]] and logs.values.max() <= 0


# Models --------------------------------------------------------------------------------------------------


def model(tokens: int, seed: int = 0) -> Any:
    small = {"tokens": tokens, "width": 8, "grams": [2], "hashes": 32}
    net: Any = models.build(("lm", small), InputSpec("tokens", (LENGTH,), 257), 2, seed)
    net.features.decoder.learn(list(TEXTS), [])
    return net.eval()


def asked(net: Any, way: Any, told: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    rows = torch.cat([X[:4], way.asked(TEXTS[:4].tolist(), told)], 1)
    with torch.no_grad():
        return dict(way.believed(answers(net(rows)[1], way)))


def begun(net: Any, row: int) -> dict[int, Table]:
    """The distribution over tokens at each byte of a passage at which one of its tokens begins."""
    decoder, found, held = net.features.decoder, {}, 0
    ids = tokenised(decoder, TEXTS[row])
    p = token_log_probs(decoder, torch.tensor([ids]))[0].exp()
    for place, token in enumerate(ids[1:]):
        found[held] = {t: p[place, i].item() for i, t in enumerate(decoder.token_bytes) if t}
        held += len(decoder.token_bytes[token])
    return found


def test_a_model_names_its_likeliest_tokens_where_one_begins() -> None:
    net, way = model(275), Strings(top=4, places=PLACES)
    said, plain = asked(net, way), asked(net, NextBytes(4, PLACES))
    there = way.spoken(said["values"])
    for row in range(4):
        at = begun(net, row)
        for place, byte in enumerate(places_of(torch.tensor([len(TEXTS[row])]), PLACES)[0].tolist()):
            named = [string(one) for one in said["strings"][row, place].tolist() if one]
            if byte < 0 or byte not in at:
                assert not named and there[row, place] == (byte >= 0)
                continue
            longer = sorted((t for t in at[byte] if 1 < len(t) <= 7), key=lambda t: -at[byte][t])
            assert named == longer[:4]
            expected = cells_of(at[byte], named).float()
            torch.testing.assert_close(said["values"][row, place].exp(), expected, atol=1e-6, rtol=1e-4)
    of_bytes = next_bytes(said["values"].exp(), said["strings"])[there]
    torch.testing.assert_close(of_bytes, plain["values"].exp()[there], atol=1e-6, rtol=1e-4)


def test_a_student_compares_the_tokens_that_it_has() -> None:
    """A model of 262 tokens, told what one of 275 names; one of bytes has none of these."""
    way, teacher, student = Strings(top=4, places=PLACES), model(275), model(262, seed=1)
    told = asked(teacher, way)["strings"]
    found = asked(student, way, told)["values"]
    own = {t for t in student.features.decoder.token_bytes if len(t) > 1}
    compared_ = 0
    for row in range(4):
        at = begun(student, row)
        for place, byte in enumerate(places_of(torch.tensor([len(TEXTS[row])]), PLACES)[0].tolist()):
            if byte not in at:
                continue
            strings = [string(one) for one in told[row, place].tolist()]
            kept = [one for one in strings if one in own]
            compared_ += len(kept)
            expected = cells_of(at[byte], kept).float()
            its = found[row, place].exp()
            mine = torch.cat([its[:256], its[[256 + strings.index(one) for one in kept]]])
            torch.testing.assert_close(mine, expected, atol=1e-6, rtol=1e-4)
            assert all(its[256 + i] == math.exp(-60) for i, one in enumerate(strings) if one not in own)
    assert compared_ > 5
    spelling = asked(model(256), way, told)["values"]
    assert (spelling[..., 256:] == -60).all()


def test_a_model_taught_what_it_said_itself_learns_no_more_of_tokens_than_of_bytes() -> None:
    """Of which codes' rounding and what is heard of bytes that were not named are all there is to learn."""
    lost = {}
    for compare, strings in (("bytes", 0), ("tokens", 16)):
        speech = f"data.speech={{passage: 32, places: 8, top: 16, compare: {compare}}}"
        world = checked_world(described("language", "fedmd", speech))
        expected, player = world.full_contribution("0"), world.player("0")
        questions = player.inputs(None)
        assert questions is not None
        net: Any = world.skeleton("0").eval()
        with torch.no_grad():
            features, logits = net(questions)
        arrays = player.extract(features, logits, {}).arrays()
        encode(arrays, expected)
        assert sum(a.nbytes for a in arrays.values()) == len(questions) * 8 * (33 + 9 * strings)
        lesson = player.digest({name: torch.as_tensor(array) for name, array in arrays.items()})
        assert lesson is not None
        rows = {**lesson.rows, "x": net.features.prepared(lesson.rows["x"])}
        assert not strings or (rows["strings"] > 0).sum() > 10 * len(questions)
        lost[compare] = lesson.loss(ModuleForward(net), rows, {})
        gradient = torch.autograd.grad(lost[compare].sum(), list(net.parameters()), allow_unused=True)
        assert all(g is None or torch.isfinite(g).all() for g in gradient)
    torch.testing.assert_close(lost["tokens"], lost["bytes"], atol=0.03, rtol=0)


@pytest.mark.parametrize("name", ["fedmd", "dsfl", "knfu", "dwc", "dynamic_logits"])
def test_strategies_fuse_cells(name: str, tmp_path: Path) -> None:
    more = ("data.speech={passage: 32, places: 6, top: 4, compare: tokens}", "rounds=1")
    scenario = described("language", name, *more)
    summary = run(scenario, tmp_path / "run")
    assert math.isfinite(summary["score"]["global_mean"]) and summary["replies"]["accepted"] == 3
    size = sum(spec.nbytes for spec in checked_world(scenario).full_contribution("0").values())
    assert summary["bytes"]["up"] == 3 * size > 3 * 12 * 6 * (4 + 9 + 4 * 8)


def test_the_loss_moves_a_student_to_its_teachers_tokens() -> None:
    """Single bytes teach it the next byte, and nothing of how it spells."""
    way = Strings(top=1, places=1)
    logits = torch.zeros(1, 258, requires_grad=True)  # next bytes, then a string and what it spells

    class Own:
        def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            split = logits[:, 256:].log_softmax(-1)  # of t: as th, or as anything else
            of_bytes = logits[:, :256].log_softmax(-1)
            th = of_bytes[:, 116:117] + split[:, :1]
            rest = of_bytes.index_add(1, torch.tensor([116]), split[:, 1:])
            return x, torch.cat([torch.zeros(1, 2), rest, th], 1)

    def taught(teacher: torch.Tensor, strings: torch.Tensor) -> torch.Tensor:
        batch = {
            "x": X[:1],
            "target": teacher.view(1, 1, -1),
            "known": torch.ones(1, 1),
            "strings": strings.view(1, 1, 1),
        }
        net: Any = Own()
        lost = compared(net, batch, {}, loss=kl, way=way, temperature=1.0)
        (gradient,) = torch.autograd.grad(lost.sum(), logits)
        return gradient[0]

    exact = cells_of({b"t": 0.1, b"th": 0.8, b"a": 0.1}, [b"th"]).clamp(min=1e-9).log().float()
    gradient = taught(exact, numbers(b"th"))
    assert gradient[256] < -0.1 and gradient[116] < -0.5  # th rises within t, t among bytes
    assert gradient[256:].sum().abs() < 1e-6


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            [
                "data.speech={compare: tokens}",
                "privacy={mode: vote_rr, epsilon_per_vote: 1.0, max_epsilon: 1e6, delta: 1e-3}",
            ],
            "data.speech.compare is tokens, but privacy mode vote_rr",
        ),
        (["data.speech={compare: letters}"], "'tokens'"),
        (["data.speech={compare: tokens, top: 33}"], "has top 33, but of tokens at most 32 are named"),
    ],
)
def test_what_strings_cannot_do_is_refused(settings: list[str], words: str) -> None:
    with pytest.raises(InputError) as raised:
        checked_world(described("language", "fedmd", *settings))
    assert words in str(raised.value)
