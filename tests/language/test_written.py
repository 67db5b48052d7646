"""A run of text as one reads it: what models write, who reads whose text how well, what it costs."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import fedkt
from fedkt.cli.commands import app
from fedkt.data.columns.tokens import passages as rows_of_text
from fedkt.engine.runs.generation import _models, decoder_of
from fedkt.engine.runs.generation import moved as moved_by
from fedkt.errors import InputError
from fedkt.language.following import following
from fedkt.results.export import export as fedkt_export
from fedkt.results.export import state_of
from fedkt.rng import numpy_stream
from tests.language import folders

WORDS = {
    "farm": b"the cow eats hay in the barn and the hen lays an egg ".split(),
    "port": b"a ship sails out of the bay with salt and fish on deck ".split(),
    "town": b"we walk to the shop by the old church near the bridge ".split(),
}


def passages(party: str, many: int, seed: int) -> np.ndarray:
    draws = numpy_stream(seed, party)
    return np.array([b" ".join(draws.choice(WORDS[party], 7).tolist()) for _ in range(many)])


def scenario(folder: Path, **changes: Any) -> dict[str, Any]:
    """Two parties, one public, on made text below ``folder``."""
    arrays: dict[str, Any] = {}
    for party in WORDS:
        arrays |= {f"x_{party}_train": passages(party, 24, 0), f"x_{party}_test": passages(party, 8, 1)}
    np.savez(folder / "made.npz", **arrays)
    small = {"name": "lm", "tokens": 256, "width": 16, "layers": 1, "hashes": 64}
    return {
        "name": "made-text",
        "data": {
            "task": "language",
            "dataset": {party: f"npz:{folder / 'made.npz'}#{party}" for party in ("farm", "port")},
            "partition": {"kind": "domain"},
            "transfer": {"from": f"npz:{folder / 'made.npz'}#town", "size": 20},
            "speech": {"top": 4, "places": 48, "passage": 48},
        },
        "clients": {
            "models": [small, {**small, "tokens": 260}],
            "local": {"epochs": 2, "batch_size": 8, "lr": 0.01},
            "distill": {"epochs": 1, "batch_size": 8},
        },
        "strategy": {"name": "fedmd"},
        "rounds": 1,
        "engine": {"kind": "inline"},
    } | changes


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    return fedkt.simulate(scenario(folder), out=folder / "run").path


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["generate", *map(str, arguments)])


def test_a_model_writes_before_and_after(run: Path) -> None:
    """By a seed; what training changed shows; at temperature 0 no seed counts."""
    one, again = (call(run, "--client", "farm", "--prompt", "the cow", "--length", 30) for _ in range(2))
    assert one.exit_code == 0 and one.stdout == again.stdout
    before, after = re.findall(r"(?:as it began|after round 1):\nthe cow(.*)\n", one.stdout)
    assert len(before) >= 30 and before != after
    other = call(run, "--client", "farm", "--prompt", "the cow", "--length", 30, "--seed", 1)
    assert other.stdout != one.stdout
    cold = [
        call(run, "--client", "port", "--prompt", "a", "--temperature", 0, "--seed", seed).stdout
        for seed in (0, 1)
    ]
    assert cold[0] == cold[1]
    both = call(run, run, "--client", "farm", "--prompt", "the cow", "--length", 30)
    assert both.stdout.count("after round 1") == 2


def test_a_model_is_moved_by_what_another_learned(run: Path) -> None:
    """Two clients with other tokens; an expert that has learned nothing since leaves it as it is."""
    about = ("--client", "farm", "--prompt", "the cow", "--length", 30, "--temperature", 0)
    told = call(run, *about, "--expert", "port")
    assert told.exit_code == 0, told.output
    after, moved = re.findall(r"after round 1(?:, moved by port)?:\nthe cow(.*)\n", told.stdout)
    assert len(moved) >= 30 and after != moved
    model = decoder_of(_models(run, "farm", "last", None)[1])
    text = b"the hen"
    still = moved_by(model, [(model, model)])(text)
    torch.testing.assert_close(still, following(model)(text).float(), atol=1e-5, rtol=0, check_dtype=False)
    wrong = call(run, *about, "--since", 1)
    assert wrong.exit_code == 2 and "name one with --expert" in wrong.stderr
    wrong = call(run, *about, "--expert", "moor", "--since", 7)
    assert "no model of client 'moor'" in wrong.stderr


def test_an_exported_model_reads_texts_as_their_bytes(run: Path, tmp_path: Path) -> None:
    model, texts = fedkt.load_model(fedkt_export(run, "farm", tmp_path / "model")), ["the cow", "hay é"]
    shape = model.prepare.preprocess.input.shape
    told = model(rows_of_text("texts", np.array(texts), *shape))[1]
    torch.testing.assert_close(model(texts)[1], told)
    assert (told[:, 0] > 0).all()  # nats


@pytest.mark.slow
def test_a_pretrained_model_with_adapters_takes_part(tmp_path: Path) -> None:
    """Its folder lies with the data; what is kept of it are the adapters, which have moved, and it writes."""
    told = scenario(tmp_path)
    folders.save_gpt2(tmp_path / "tiny", folders.byte_level())
    adapted = {"name": "hf-lm:tiny", "lora": 2, "targets": ["c_attn"]}
    told["clients"]["models"] = [told["clients"]["models"][0], adapted]
    told["data"]["speech"] |= {"passage": 40}
    run = fedkt.simulate(told, out=tmp_path / "run", data_dir=tmp_path).path
    rows = [json.loads(line) for line in (run / "clients.jsonl").read_text().splitlines()]
    assert {row["client"]: row["status"] for row in rows} == {"farm": "accepted", "port": "accepted"}
    state, _ = state_of(run, "port")
    kept = state.part("model")
    assert kept and all("lora" in name for name in kept)
    assert any(tensor.abs().sum() > 0 for name, tensor in kept.items() if "lora_B" in name)  # began at 0
    wrote = call(run, "--client", "port", "--prompt", "a ship", "--length", 20, "--data-dir", tmp_path)
    assert wrote.exit_code == 0 and wrote.stdout.count("a ship") == 2
    folder = fedkt_export(run, "port", tmp_path / "model", data_dir=tmp_path)
    told = fedkt.load_model(folder, tmp_path)(["a ship sails", "salt and fish"])[1]
    assert (told[:, 0] > 0).all() and told.isfinite().all()  # nats
    with pytest.raises(InputError, match="there is no folder"):
        fedkt.load_model(folder)
    lacks = call(run, "--client", "port", "--prompt", "a ship")
    assert lacks.exit_code == 2 and "there is no folder" in lacks.stderr


def test_bad_input_is_told_at_once(run: Path, tmp_path: Path) -> None:
    wrong = call(run, "--client", "moor", "--prompt", "a", "--length", 0, "--temperature", -1)
    assert isinstance(wrong.exception, SystemExit) or wrong.exit_code == 2
    for part in (
        "--length is 0",
        "--temperature is -1",
        "no model of client 'moor'; its clients are farm, port",
    ):
        assert part in wrong.stderr
    plain = fedkt.simulate("quickstart", ["rounds=1", "engine.kind=inline"], out=tmp_path / "digits").path
    assert "whose models write no text" in call(plain, "--client", "0", "--prompt", "a").stderr


def test_the_report_tells_of_domains_and_texts(run: Path) -> None:
    """Each model on each party's test text, as the leading figure of the same rows; bytes of a passage."""
    held = json.loads((run / "domains.json").read_text())
    assert list(held["clients"]) == list(held["clients"]["farm"]) == ["farm", "port"]
    rows = [json.loads(line) for line in (run / "clients.jsonl").read_text().splitlines()]
    for row in rows:
        own = held["clients"][row["client"]][row["client"]]
        assert own == pytest.approx(row["personal"])
    texts = json.loads((run / "examples.json").read_text())["texts"]
    assert all(len(text.encode()) >= 160 for text in texts.values())
    from fedkt.results.report import report_of

    page = report_of(run, {}).read_text()
    assert "Domain by domain" in page and "Bits per byte after round 1" in page
    # 48 places with 4 bytes and 5 codes each, and the headers of two arrays over 20 passages.
    sent = re.search(r"A client sends (\d+) bytes of each public passage", page)
    assert sent is not None and 432 <= int(sent[1]) <= 450


def test_what_cannot_be_seen_is_escaped() -> None:
    from fedkt.engine.runs.generation import shown

    assert shown("a\x1b[2Jb\né") == "a\\x1b[2Jb\né"
