"""Causal language models of transformers from a folder: bytes of their tokens, adapters, bad folders."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedkt import models
from fedkt.client.behaviour import Fit, Steps, supervised
from fedkt.client.shared_weights import shared
from fedkt.data.columns.tokens import passages
from fedkt.data.sets.dataset import InputSpec
from fedkt.errors import InputError
from fedkt.language import LanguageModel
from fedkt.language.causal import tokenised
from fedkt.models.decoders.pretrained import pretrained
from fedkt.privacy.clipping import by_row, ghost, is_plain, tidy
from fedkt.tasks import Language
from tests.language import folders

TEXT = "The fox <|end|> took\n 250  mg — naïve \U0001f98a".encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.save(tmp_path_factory.mktemp("hf"), folders.byte_level())


def test_a_byte_level_model_reads_any_text(folder: Path) -> None:
    """Also one that names a special token or begins without a space, which its tokenizer would add."""
    model = pretrained(str(folder))
    assert isinstance(model, LanguageModel)
    assert (model.context, model.token_bytes[model.start]) == (48, b"")
    for text in (TEXT, b"fox", b" fox", b"", b"caf\xc3", b"\xff\x00 fox \xe2\x80"):
        ids = tokenised(model, text)
        assert ids[0] == model.start and b"".join(model.token_bytes[i] for i in ids) == text
    assert {bytes([byte]) for byte in range(256)} <= set(model.token_bytes)  # so nothing can be lost
    sentence = torch.tensor([tokenised(model, b"The fox")])
    logits = model(sentence)
    assert logits.shape == (1, sentence.shape[1], len(model.token_bytes))
    changed = sentence.clone()
    changed[0, -1] = 5
    assert torch.equal(model(changed)[0, :-1], logits[0, :-1])  # causal


def test_a_model_of_sentencepiece_reads_any_text(tmp_path: Path) -> None:
    """A space is its U+2581, and what it lacks is bytes; the net may have more outputs than tokens."""
    model = pretrained(str(folders.save(tmp_path, folders.sentencepiece(), outputs=300)))
    held = [model.token_bytes[i] for i in tokenised(model, b"the th")]
    assert held == [b"", b"th", b"e", b" th"]
    assert b"".join(model.token_bytes[i] for i in tokenised(model, TEXT)) == TEXT
    assert len(model.token_bytes) == 300 and model.token_bytes[299] == b""


def test_with_adapters_they_alone_are_the_state(folder: Path) -> None:
    """Rank 2 on one layer of two blocks: 2 (32 + 32) numbers each; the net stays as in the folder."""
    model = pretrained(str(folder), lora=2, targets=["q_proj"])
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trained = {name for name, tensor in model.named_parameters() if tensor.requires_grad}
    assert set(state) == trained and sum(tensor.numel() for tensor in state.values()) == 2 * 2 * 64
    ids = torch.tensor([tokenised(model, b"The fox")])
    assert torch.equal(model(ids), pretrained(str(folder))(ids))  # new adapters change nothing
    moved = {name: tensor + 0.1 for name, tensor in state.items()}
    model.load_state_dict(moved)
    other = pretrained(str(folder), lora=2, targets=["q_proj"])
    other.load_state_dict(moved)
    assert torch.equal(model(ids), other(ids)) and not torch.equal(model(ids), pretrained(str(folder))(ids))
    with pytest.raises(RuntimeError, match="lora_A"):
        other.load_state_dict({})
    assert len(pretrained(str(folder)).state_dict()) == 21  # without adapters all is


def test_of_shared_weights_nothing_is_kept_either(tmp_path: Path) -> None:
    """A GPT-2's outputs are its embeddings, frozen once under two names; what is shared is in the state."""
    gpt2 = folders.save_gpt2(tmp_path / "gpt2", folders.byte_level())
    adapters = {"lora": 2, "targets": ["c_attn"]}
    net: Any = models.build((f"hf-lm:{gpt2}", adapters), InputSpec("tokens", (40,), 257), 2, 0)
    state = net.state_dict()
    assert sum(tensor.numel() for tensor in state.values()) == 2 * (16 + 48)
    assert set(shared(net)) == set(state)
    net.load_state_dict(state)


def test_bad_folders_are_told_in_a_sentence(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn").mkdir()
    for file in folder.iterdir():
        (tmp_path / "torn" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "torn" / "model.safetensors").write_bytes(b"nothing")
    for name, said in [
        ("none", "there is no folder"),
        ("empty", "lacks config.json, tokenizer.json, model.safetensors"),
        ("torn", "cannot be read"),
    ]:
        with pytest.raises(InputError, match=said) as error:
            pretrained(str(tmp_path / name))
        assert "\n" not in str(error.value) and f"hf-lm:{tmp_path / name}" in str(error.value)
    with pytest.raises(InputError, match="lora is -1"):
        pretrained(str(folder), lora=-1)
    with pytest.raises(InputError, match="set lora"):
        pretrained(str(folder), alpha=2)
    with pytest.raises(InputError, match="targets must name its layers"):
        pretrained(str(folder), lora=2, targets=["elsewhere"])


def test_a_tokenizer_that_loses_bytes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"WordLevel.*does not keep all bytes"):
        pretrained(str(folders.save(tmp_path / "words", folders.words())))
    with pytest.raises(InputError, match="313 tokens, but its net 300 outputs"):
        pretrained(str(folders.save(tmp_path / "few", folders.byte_level(), outputs=300)))


def test_a_folder_may_lie_where_data_lie(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the data of a run, as all files that a scenario names."""
    monkeypatch.delenv("FEDKT_DATA", raising=False)
    spec = InputSpec("tokens", (40,), 257, data_dir=folder.parent)
    net: Any = models.build(f"hf-lm:{folder.name}", spec, 2, 0)
    assert net.features.decoder.context == 48
    with pytest.raises(InputError, match="there is no folder"):
        models.build(f"hf-lm:{folder.name}", InputSpec("tokens", (40,), 257), 2, 0)


@pytest.mark.parametrize("case", ["tied", "untied", "adapters"])
def test_private_training_bounds_each_passage_of_a_gpt2(tmp_path: Path, case: str) -> None:
    """Its positions have no batch, so hooks see one row of gradient for all passages: too small a norm.

    What is summed must be each passage's own gradient, clipped, whichever way is taken.
    """
    gpt2 = folders.save_gpt2(tmp_path / "gpt2", folders.byte_level(), tied=case == "tied")
    adapters = {"lora": 2, "targets": ["c_attn"]} if case == "adapters" else {}
    net: Any = models.build((f"hf-lm:{gpt2}", adapters), InputSpec("tokens", (40,), 257), 2, 0)
    for part in net.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    texts = [b"The fox took 250", b"def f(x): return", "a naïve café, twice".encode()]
    x = torch.from_numpy(passages("x", np.array(texts), 40))
    rows = {"x": net.features.prepared(x), "y": torch.from_numpy(Language().of_rows(x.numpy()))}
    loss, clip = partial(supervised, task=Language()), 1e-2
    phase = Fit("train", rows, loss, Steps(1, 3, "sgd", 0.1), private=True)
    plain = is_plain(net.train(), phase)
    assert plain == (case == "adapters")  # which leave the positions as they are
    trained = [p for p in net.train().parameters() if p.requires_grad]
    expected = [torch.zeros_like(p) for p in trained]
    for row in range(3):
        one = {name: tensor[row : row + 1] for name, tensor in rows.items()}
        own = torch.autograd.grad(loss(net, one, {}).sum(), trained)
        norm = torch.stack([g.norm() for g in own]).norm()
        assert norm > clip
        for total, gradient in zip(expected, own, strict=True):
            total += clip / norm * gradient
    with (ghost if plain else by_row)(net, loss, {}, clip) as add:
        add(rows)
    for parameter, total in zip(trained, expected, strict=True):
        torch.testing.assert_close(parameter.grad, total, rtol=1e-3, atol=1e-6)
    tidy(net)
