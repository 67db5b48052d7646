"""Causal language models of transformers, from a local folder: ``hf-lm:FOLDER``.

The folder is what ``save_pretrained`` wrote for a model and its tokenizer: ``config.json``,
``model.safetensors``, ``tokenizer.json``. Nothing is downloaded, and no code from the folder is run. With
``lora`` the net is frozen but for adapters (Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language
Models", arXiv 2106.09685, by the package peft), and these alone are the model's state: a client keeps a few
MB, whatever the size of the net.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from fedkt.errors import InputError
from fedkt.files import data_places
from fedkt.language.foreign import ForeignTokens
from fedkt.models.decoders.speaker import Voice
from fedkt.registry import takes

if TYPE_CHECKING:
    from fedkt.data.sets.dataset import InputSpec

LONGEST = 4096
"""Tokens that a net without an end of its own reads at once."""


class Pretrained(nn.Module):
    """A causal net of transformers with its tokenizer: a :class:`~fedkt.language.LanguageModel`."""

    def __init__(self, net: nn.Module, tokens: ForeignTokens, context: int) -> None:
        super().__init__()
        self.net = net
        self._tokens = tokens
        self.context, self.start = context, tokens.start
        self.register_state_dict_post_hook(_leave_out_frozen)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(_miss_no_frozen)  # type: ignore[no-untyped-call]

    @property
    def token_bytes(self) -> tuple[bytes, ...]:
        """The bytes of each token."""
        return self._tokens.token_bytes

    def encode(self, text: bytes) -> list[int]:
        """Return the ids of a text."""
        return self._tokens.encode(text)

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits [b, t, V] of ids [b, t]."""
        logits: Tensor = self.net(input_ids=ids, use_cache=False).logits
        return logits


@takes("tokens")
def hf_lm(
    input: "InputSpec",
    classes: int,
    *,
    folder: str = "",
    lora: int = 0,
    alpha: int | None = None,
    targets: Sequence[str] = (),
) -> nn.Module:
    """A causal language model of transformers in a local folder, for ``data.task: language``."""
    if input.kind != "tokens" or classes != 2:
        raise InputError("model 'hf-lm' reads text; data.task must be language.")
    if not folder:
        raise InputError("model 'hf-lm' needs a folder; it must be written as hf-lm:FOLDER.")
    return Voice(pretrained(folder, lora, alpha, targets, input.data_dir), input.shape[0])


def pretrained(
    folder: str,
    lora: int = 0,
    alpha: int | None = None,
    targets: Sequence[str] = (),
    data_dir: Path | None = None,
) -> Pretrained:
    """Return the causal language model of a folder.

    Args:
        folder: as it is from the working folder, or below one of the places where data lie.
        lora: the rank of adapters on ``targets``; 0: the net itself is trained.
        alpha: by which adapters are scaled, over ``lora``; None: twice the rank.
        targets: the names of layers that get adapters; none: all linear ones but the last.
        data_dir: the first of these places, before ``$FEDKT_DATA`` and ``./data``.

    Raises:
        InputError: a package is missing, or the folder holds no such model, tokenizer or layer.
    """
    where = f"model 'hf-lm:{folder}'"
    _check_installed(where, bool(lora))
    place = _place(where, folder, data_dir)
    if not isinstance(lora, int) or isinstance(lora, bool) or lora < 0:
        raise InputError(f"{where}: lora is {lora!r}; it must be a rank of at least 1, or 0 for no adapters.")
    if not lora and (alpha is not None or targets):
        raise InputError(f"{where}: alpha and targets are of adapters; set lora to their rank.")
    net, tokenizer = _read(where, place)
    tokens = ForeignTokens(where, tokenizer, net.config.get_text_config().vocab_size)
    if lora:
        net = _adapted(where, net, lora, 2 * lora if alpha is None else alpha, list(targets))
    return Pretrained(net, tokens, _context(net.config))


def _read(where: str, place: Path) -> tuple[Any, Any]:
    """Return the net and the tokenizer of a folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    quiet, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=True, trust_remote_code=False)
        net = AutoModelForCausalLM.from_pretrained(
            place, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
        )
    except Exception as error:  # its own errors have no class in common
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(
            f"{where} cannot be read ({reason[:300]}); the folder must hold what save_pretrained wrote for a "
            "causal language model and its fast tokenizer."
        ) from error
    finally:
        logging.set_verbosity(quiet)
        if bars:
            logging.enable_progress_bar()
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise InputError(f"{where}: its tokenizer is no fast one; save it with a tokenizer.json.")
    return net, tokenizer


def _place(where: str, folder: str, data_dir: Path | None) -> Path:
    """Return the folder of a model, after looking whether all that is needed is in it."""
    places = list(dict.fromkeys([Path(folder), *data_places(folder, data_dir)]))
    place = next((one for one in places if one.is_dir()), None)
    if place is None:
        raise InputError(f"{where}: there is no folder {' or '.join(map(str, places))}.")
    held = {file.name for file in place.iterdir()}
    lacking = [name for name in ("config.json", "tokenizer.json") if name not in held]
    if not held & {"model.safetensors", "model.safetensors.index.json"}:
        lacking.append("model.safetensors")
    if lacking:
        raise InputError(
            f"{where}: {place} lacks {', '.join(lacking)}; it must hold what save_pretrained wrote for a "
            "model (as safetensors) and its fast tokenizer."
        )
    return place


def _context(config: Any) -> int:
    text = config.get_text_config()
    longest = next((getattr(text, name, None) for name in ("max_position_embeddings", "n_positions")), None)
    return int(longest or LONGEST)


def _adapted(where: str, net: nn.Module, rank: int, alpha: int, targets: list[str]) -> nn.Module:
    from peft import LoraConfig, get_peft_model

    about = LoraConfig(
        r=rank, lora_alpha=alpha, target_modules=targets or "all-linear", task_type="CAUSAL_LM"
    )
    try:
        return get_peft_model(net, about)
    except ValueError as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(
            f"{where} can get no adapters ({reason[:300]}); targets must name its layers."
        ) from error


def _check_installed(where: str, adapters: bool) -> None:
    wanted = ["transformers", "tokenizers", *(["peft"] if adapters else [])]
    if missing := [name for name in wanted if find_spec(name) is None]:
        raise InputError(
            f"{where} needs {' and '.join(missing)}, not installed here; install 'fedkt[lm]', which has all "
            "that language models need."
        )


def _frozen(module: nn.Module) -> set[str]:
    """Return the names of what is frozen, of weights that two layers share both."""
    every = module.named_parameters(remove_duplicate=False)
    return {name for name, tensor in every if not tensor.requires_grad}


def _leave_out_frozen(module: nn.Module, state: dict[str, Any], prefix: str, about: Any) -> None:
    """Keep what is frozen out of the state: it lies in the folder."""
    for name in _frozen(module):
        state.pop(prefix + name, None)


def _miss_no_frozen(module: nn.Module, keys: Any) -> None:
    """Let what is frozen stay as it is where a state is read."""
    frozen = _frozen(module)
    keys.missing_keys[:] = [
        key for key in keys.missing_keys if not any(key.endswith(name) for name in frozen)
    ]
