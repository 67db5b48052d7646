"""Causal language models of transformers from a folder: bytes of their tokens, adapters, bad folders."""

from pathlib import Path

import pytest
import torch

from fedkt.errors import InputError
from fedkt.language import LanguageModel
from fedkt.language.causal import tokenised
from fedkt.models.decoders.pretrained import pretrained
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
