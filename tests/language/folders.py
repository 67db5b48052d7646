"""Tiny causal language models of transformers in folders: random weights, tokenizers of a few sentences."""

from pathlib import Path
from typing import Any

TEXTS = ["The quick brown fox took 250 mg — twice.", "def f(x): return x**2  # a naïve café"] * 20


def byte_level(size: int = 320) -> Any:
    """A byte-level BPE tokenizer, as GPT-2's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        show_progress=False,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")


def sentencepiece() -> Any:
    """One as SentencePiece makes them, with bytes for what it lacks, as Llama 2's."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    pieces = [
        "<unk>",
        "<s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "\u2581",
        "t",
        "h",
        "th",
        "\u2581th",
    ]
    merges = [("t", "h"), ("\u2581", "th")]
    model = models.BPE(
        vocab={piece: number for number, piece in enumerate(pieces)},
        merges=merges,
        unk_token="<unk>",
        byte_fallback=True,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>")


def words() -> Any:
    """One that knows a few words and nothing of their bytes."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "fox": 1}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<unk>", unk_token="<unk>")


def save(folder: Path, tokenizer: Any, outputs: int | None = None, longest: int = 48) -> Path:
    """Write a Llama with two layers of width 32 and this tokenizer; ``outputs``: None: its tokens."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer) if outputs is None else outputs,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=longest,
    )
    return _written(folder, tokenizer, LlamaForCausalLM, config)


def save_gpt2(folder: Path, tokenizer: Any, tied: bool = True) -> Path:
    """Write a GPT-2 with one layer of width 16, whose positions have no batch, and this tokenizer."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=16,
        n_layer=1,
        n_head=2,
        n_positions=48,
        bos_token_id=0,
        eos_token_id=0,
        tie_word_embeddings=tied,
    )
    return _written(folder, tokenizer, GPT2LMHeadModel, config)


def _written(folder: Path, tokenizer: Any, model: Any, config: Any) -> Path:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
