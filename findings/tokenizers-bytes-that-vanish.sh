#!/usr/bin/env bash
# "The dose was 250 mg, twice." goes into a byte-level tokenizer and comes back as "he dose was  mg twie".
#
# Expected: byte-level BPE knows all 256 bytes, so any text round-trips; that is the reason to choose it.
# Happens: the trainer's vocabulary holds the bytes of the texts that it was trained on and no others. A byte
#   that it never met gives no token, no unknown token, no gap in the ids and no error: digits, capitals and
#   commas are left out, and a dose of 250 mg reads as "mg". The offsets of the tokens around the hole still
#   point at the full text. With initial_alphabet=ByteLevel.alphabet() the text comes back whole.
# Versions: tokenizers 0.23.3.
# Why it matters: parties who each train a tokenizer on a small private corpus then score public passages with
#   holes of different places. Their likelihoods per passage are compared as if they spoke of the same bytes,
#   and the party whose tokenizer drops most looks surest.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile "tokenizers==0.23.3"
cd "$work"
"$work/venv/bin/python" - <<'PROGRAM'
import sys
from importlib.metadata import version

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

print("tokenizers", version("tokenizers"))
notes = ["the patient was given aspirin and went home"] * 50
text = "The dose was 250 mg, twice."


def trained(**settings):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, show_progress=False, **settings)
    tokenizer.train_from_iterator(notes, trainer)
    return tokenizer


own = trained()
whole = trained(initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
answers = {}
for name, tokenizer in (("as trained", own), ("with initial_alphabet", whole)):
    encoded = tokenizer.encode(text)
    answers[name] = tokenizer.decode(encoded.ids)
    print(f"{name}: {len(encoded.ids)} tokens, last at {encoded.offsets[-1]} of {len(text)}: {answers[name]!r}")
dropped = sorted(set(text) - set(answers["as trained"]))
print("gone without a sign:", dropped)
seen = (
    answers["with initial_alphabet"] == text
    and dropped == [",", ".", "0", "2", "5", "T", "c"]
    and own.encode("250").ids == []
)
sys.exit(0 if seen else "the behaviour has changed")
PROGRAM
