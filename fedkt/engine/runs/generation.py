"""What a client's language model writes, as it began and as it is after a run; so examples can be read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedkt.distill.shifting import shifted
from fedkt.errors import InputError
from fedkt.language import LanguageModel
from fedkt.language.following import NextByte, following
from fedkt.language.marginals import LEAST
from fedkt.language.writing import written, written_by_bytes
from fedkt.models import Net
from fedkt.results.export import blank, described, net_of, state_of
from fedkt.results.result import Result
from fedkt.rng import seed_of, torch_stream
from fedkt.scenario import load
from fedkt.tasks import task_of

LONGEST = 10_000
"""Bytes that are written at most."""


@dataclass(frozen=True)
class Example:
    """What one model wrote: who that was (a run and its state), and the text after the prompt."""

    run: str
    state: str
    text: str


def generated(
    runs: Sequence[Path],
    client: str,
    prompt: str,
    *,
    length: int = 200,
    temperature: float = 1.0,
    seed: int = 0,
    round_: str = "last",
    began: bool = True,
    experts: Sequence[str] = (),
    since: str | None = None,
    data_dir: Path | None = None,
) -> list[Example]:
    """Return what a client's model writes after a prompt.

    First, if ``began``, as it began in the first run (its weights before any training; a pretrained one's
    from its folder), then as it is after each run. ``length``: bytes, at least; to the end of a token, and of
    a character. ``temperature``: 0 for the likeliest token each time; ``seed``: of the draws, the same for
    all; ``data_dir``: where a pretrained model's folder may lie too.

    ``experts``: clients of each run; then also what the model writes where it is moved, byte by byte, by what
    these have learned since they began, or since round ``since``, one that the run kept
    (:func:`fedkt.distill.shifting.shifted`).

    Raises InputError, with all that is wrong, where a run is not of text or has no such client, and where a
    number is out of range or the prompt cannot be read.
    """
    problems = []
    if not 1 <= length <= LONGEST:
        problems.append(f"--length is {length}; it must be 1 to {LONGEST} bytes.")
    if not 0 <= temperature < float("inf"):
        problems.append(f"--temperature is {temperature:g}; it must be 0 or above.")
    if since is not None and not experts:
        problems.append("--since is about experts, of which there are none; name one with --expert.")
    found, moving = [], []
    for run in runs:
        try:
            found.append(_models(run, client, round_, data_dir))
            moving.append([_learned(run, name, round_, since, data_dir) for name in experts])
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(*dict.fromkeys(problems))
    nets = [(str(runs[0]), "as it began", found[0][0])] if began else []
    nets += [(str(run), f"after round {last}", net) for run, (_, net, last) in zip(runs, found, strict=True)]
    text = prompt.encode()
    examples = []
    for name, state, net in nets:
        draws = torch_stream(seed, "generate", client)
        more = written(decoder_of(net), text, length, temperature, draws)
        examples.append(Example(name, state, _whole(text, more)))
    for run, (_, net, last), pairs in zip(runs, found, moving, strict=True):
        if pairs:
            next_byte, draws = moved(decoder_of(net), pairs), torch_stream(seed, "generate", client)
            more = written_by_bytes(next_byte, text, length, temperature, draws)
            state = f"after round {last}, moved by {', '.join(experts)}"
            examples.append(Example(str(run), state, _whole(text, more)))
    return examples


def moved(large: LanguageModel, experts: Sequence[tuple[LanguageModel, LanguageModel]]) -> NextByte:
    """Return what a model believes of the next byte, moved by what experts have learned.

    ``experts``: each as it was before and after. Tokenizers may differ.
    """
    own = following(large)
    before, after = ([following(pair[at]) for pair in experts] for at in (0, 1))

    def said(models: Sequence[NextByte], text: bytes) -> Tensor:
        return torch.stack([of(text) for of in models]).clamp(min=LEAST).log()

    def next_byte(text: bytes) -> Tensor:
        return shifted(said([own], text)[0], said(after, text), said(before, text))[0].exp()

    return next_byte


def _learned(
    run: Path, client: str, round_: str, since: str | None, data_dir: Path | None
) -> tuple[LanguageModel, LanguageModel]:
    """Return a client's language model as it was before, and as it is."""
    began, is_now, _ = _models(run, client, round_, data_dir)
    before = began if since is None else _models(run, client, since, data_dir)[1]
    return decoder_of(before), decoder_of(is_now)


def decoder_of(net: Net) -> Any:
    """Return the language model of a client's model. Raises TypeError where it has none."""
    found = getattr(net.eval().features, "decoder", None)
    if found is None:
        raise TypeError("this model writes no text")
    return found


def _models(run: Path, client: str, round_: str, data_dir: Path | None) -> tuple[Net, Net, int]:
    """Return a client's model as it began, as it is, and after which round that is."""
    folder = Result.read(run).path
    scenario = load(folder / "scenario.yaml")
    if not task_of(scenario.data).writes:
        raise InputError(
            f"{run} is of data.task {scenario.data.task}, whose models write no text; it must be a run of "
            "task language."
        )
    state, last = state_of(folder, client, round_)
    about = described(folder, state)
    began = blank(about, seed_of(scenario.seed, "model", client), data_dir)
    is_now = net_of(about, state, data_dir)
    first, held = began.state_dict(), state.part("model")
    tokens = {name: held[name] for name, _ in began.named_buffers() if name in first}
    began.load_state_dict({**first, **tokens})  # what it learned of tokens alone
    return began, is_now, last


def shown(text: str) -> str:
    r"""Return a text as a terminal may show it: what is no character to be seen as an escape.

    >>> print(shown("a\tb\x1b[31m"))
    a\x09b\x1b[31m
    """
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)


def _whole(prompt: bytes, more: bytes) -> str:
    """Return what was written as text, without the bytes of a character that is not whole at its end."""
    whole = (prompt + more).decode(errors="replace")[len(prompt.decode()) :]
    return whole.rstrip("\ufffd") if more[-1:] >= b"\x80" else whole
