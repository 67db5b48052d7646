"""The ledger: durable before data are touched, no refunds, one charge per release, edits are seen."""

from pathlib import Path

import numpy as np
import pytest

from fedkt.privacy.accounting import Event, spent
from fedkt.privacy.ledger import Declined, Ledger, Purpose

STEP = Event("gauss", "record", 4.0)  # one costs 0.926 at delta 1e-5, twenty 4.98
TERMS = {"delta": 1e-5, "unit": "record", "change": "zeroed out", "most": 8.0}


def at(number: int, stage: str = "train") -> Purpose:
    return Purpose("run", number, stage)


def reserve(ledger: Ledger, number: int, **terms: object) -> None:
    ledger.reserve(at(number), [STEP], **{**TERMS, **terms})  # type: ignore[arg-type]


def test_what_was_reserved_is_paid_whatever_happens_then(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "new")
    assert ledger.spent(1e-5, "record").epsilon == 0
    reserve(ledger, 1)
    once = Ledger(tmp_path / "new").spent(1e-5, "record").epsilon
    assert once == pytest.approx(0.926342, abs=1e-6)
    # The attempt died: nothing was released, nothing is given back, and a second attempt pays again.
    reserve(ledger, 1)
    assert ledger.spent(1e-5, "record").epsilon == spent([STEP, STEP], 1e-5).epsilon > once


def test_a_budget_is_never_exceeded(tmp_path: Path) -> None:
    """At sigma 4 three releases cost 1.698 and four 1.993: the fourth is refused and costs nothing."""
    ledger, most = Ledger(tmp_path), spent([STEP] * 3, 1e-5).epsilon
    for number in (1, 2, 3):
        reserve(ledger, number, most=most)
    with pytest.raises(Declined, match=r"epsilon would be 1\.993 .* the budget is 1\.698") as refused:
        reserve(ledger, 4, most=most)
    assert refused.value.reason == "budget"
    assert ledger.spent(1e-5, "record").epsilon == most
    assert len(ledger.entries()) == 3


def test_the_same_release_twice_is_the_same_bytes_and_one_charge(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    values = {"values": np.arange(6, dtype=np.float32).reshape(2, 3)}
    assert ledger.released(at(1)) is None
    reserve(ledger, 1)
    ledger.release(at(1), values)
    paid = ledger.spent(1e-5, "record").epsilon
    for _ in range(3):
        again = Ledger(tmp_path).released(at(1))
        assert again is not None and again["values"].tobytes() == values["values"].tobytes()
    assert ledger.spent(1e-5, "record").epsilon == paid
    assert ledger.released(at(2)) is None and ledger.released(at(1, "digest")) is None


def test_nothing_is_released_that_was_not_paid(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    with pytest.raises(Declined, match="nothing was reserved"):
        ledger.release(at(1), {})
    reserve(ledger, 1)
    ledger.release(at(1), {})
    with pytest.raises(Declined, match="released already"):
        ledger.release(at(1), {})


def test_it_goes_on_from_run_to_run(tmp_path: Path) -> None:
    reserve(Ledger(tmp_path), 1)
    Ledger(tmp_path).reserve(Purpose("another", 1, "train"), [STEP], **TERMS)  # type: ignore[arg-type]
    assert Ledger(tmp_path).spent(1e-5, "record").epsilon == spent([STEP] * 2, 1e-5).epsilon


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new"),
    [('"noise": 4.0', '"noise": 9.0'), ('"round": 1', '"round": 9'), ('"count": 1', '"count": 0')],
)
def test_an_edited_line_is_seen(tmp_path: Path, old: str, new: str) -> None:
    ledger = Ledger(tmp_path)
    reserve(ledger, 1)
    reserve(ledger, 2)
    edit(ledger.path, old, new)
    for use in (
        lambda: reserve(ledger, 3),
        lambda: ledger.spent(1e-5, "record"),
        lambda: ledger.released(at(1)),
    ):
        with pytest.raises(Declined, match="was changed at line 2") as refused:
            use()
        assert refused.value.reason == "ledger"


def test_a_line_taken_out_is_seen(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for number in (1, 2, 3):
        reserve(ledger, number)
    lines = ledger.path.read_text().splitlines(keepends=True)
    ledger.path.write_text("".join([lines[0], lines[2]]))
    with pytest.raises(Declined, match="was changed at line 2"):
        ledger.events()


def test_a_ledger_that_was_cut_short_or_deleted_is_seen_by_its_anchor(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.check(ledger.anchor())
    reserve(ledger, 1)
    early = ledger.anchor()
    reserve(ledger, 2)
    late = ledger.anchor()
    ledger.check(early)
    ledger.check(late)
    lines = ledger.path.read_text().splitlines(keepends=True)
    ledger.path.write_text(lines[0])
    ledger.check(early)
    with pytest.raises(Declined, match="cut short"):
        ledger.check(late)
    ledger.path.unlink()
    with pytest.raises(Declined, match="is missing"):
        ledger.check(early)


def test_a_line_that_a_crash_cut_off_was_never_an_entry(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    reserve(ledger, 1)
    with open(ledger.path, "ab") as file:
        file.write(b'{"entry": 2, "sta')
    assert len(ledger.entries()) == 1
    reserve(ledger, 2)
    assert [entry["entry"] for entry in ledger.entries()] == [1, 2]
    assert ledger.path.read_bytes().count(b"\n") == 2


def test_changed_bytes_are_not_sent_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    reserve(ledger, 1)
    ledger.release(at(1), {"values": np.ones(3, np.float32)})
    (kept,) = (tmp_path / "sent").glob("*.safetensors")
    kept.write_bytes(kept.read_bytes()[:-1] + b"\0")
    with pytest.raises(Declined, match="missing or changed"):
        ledger.released(at(1))


def test_what_nobody_can_ask_for_again_may_go(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for number in (1, 2):
        reserve(ledger, number)
        ledger.release(at(number), {"values": np.ones(3, np.float32)})
    ledger.forget_sent("run", before=2)
    assert ledger.released(at(2)) is not None
    assert len(list((tmp_path / "sent").glob("*.safetensors"))) == 1


def test_an_unwritable_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Declined, match="cannot be written"):
        reserve(Ledger(tmp_path / "file"), 1)


def test_kill_9_never_leaves_less_than_the_truth(tmp_path: Path) -> None:
    """A short run of ``python -m benchmarks.ledger``, which kills 200 times."""
    from benchmarks.ledger import kill

    found = [kill(tmp_path / str(i), after_s=0.02 + 0.03 * i) for i in range(3)]
    assert all(one.recorded >= one.touched and one.charged_once for one in found), found
