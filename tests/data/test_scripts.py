"""Texts of all scripts as tokens: hashes of words written out."""

import zlib

import pytest

from fedkt.data.columns.tokens import tokenise


def id_of(token: str) -> int:
    return 1 + zlib.crc32(token.encode()) % 19_999


def ids(text: str) -> list[int]:
    return [int(token) for token in tokenise([text])[0] if token]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("这部电影很好看", ["这部", "部电", "电影", "影很", "很好", "好看"]),
        ("好。看", ["好", "。", "看"]),
        ("映画は2回見た!", ["映画", "画は", "2", "回見", "見た", "!"]),
        ("ง่าย", ["ง่า", "าย"]),
        ("ดี\u200bมาก", ["ดี", "มา", "าก"]),
        ("AI技術", ["ai", "技術"]),
        ("한국어 말", ["한국어", "말"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("مُحَمَّد", ["مُحَمَّد"]),
        ("می\u200cخواهم", ["میخواهم"]),  # noqa: RUF001
        ("co\u00adoperate", ["cooperate"]),
        ("\ufeffGood", ["good"]),
        ("Größe, ok", ["größe", ",", "ok"]),
        ("❤\ufe0f", ["❤\ufe0f"]),
    ],
)
def test_tokens(text: str, tokens: list[str]) -> None:
    assert ids(text) == [id_of(token) for token in tokens]


@pytest.mark.parametrize(
    ("composed", "decomposed"), [("café", "cafe\u0301"), ("가", "\u1100\u1161"), ("が", "か\u3099")]
)
def test_one_word_has_one_id_however_it_is_encoded(composed: str, decomposed: str) -> None:
    assert composed != decomposed
    assert ids(decomposed) == ids(composed) == [id_of(composed)]


def test_texts_of_unlike_scripts_stay_apart_and_are_cut() -> None:
    found = tokenise(["a b", "好看吗", "", "c d e"], length=2)
    assert found.tolist() == [
        [id_of("a"), id_of("b")],
        [id_of("好看"), id_of("看吗")],
        [0, 0],
        [id_of("c"), id_of("d")],
    ]
