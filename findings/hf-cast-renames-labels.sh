#!/usr/bin/env bash
# Two sites name the same two classes in another order: the cast that joins them turns the sick into the
# healthy.
#
# Expected: a ClassLabel column knows its names, so casting it to another order of the same names renumbers
#   it, as encoding by name does.
# Happens: concatenate_datasets refuses and says which feature it expects; cast(that feature) succeeds, keeps
#   the numbers and exchanges the names. Every label of the second site then says the opposite. Going through
#   the names (align_labels_with_mapping) gives what was meant.
# Versions: datasets 4.8.5.
# Why it matters: names sorted or met in another order at each site are the rule in a federation, the refusal
#   leads straight to the cast, and the result differs from the right one in nothing but the truth.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "datasets==4.8.5" "numpy==2.4.6" "pyarrow==26.0.1" "pandas==3.1.1"
cd "$work"
"$work/venv/bin/python" - <<'PROGRAM'
import sys

import datasets
from datasets import ClassLabel, Dataset, Features, Value, concatenate_datasets

datasets.disable_progress_bars()
print("datasets", datasets.__version__)


def site(names, labels):
    features = Features({"patient": Value("string"), "label": ClassLabel(names=names)})
    return Dataset.from_dict({"patient": ["p", "q"], "label": labels}, features=features)


def named(data):
    return data.features["label"].int2str(list(data["label"]))


here, there = site(["ill", "well"], ["ill", "well"]), site(["well", "ill"], ["ill", "ill"])
print("here", named(here), "| there", named(there))
try:
    concatenate_datasets([here, there])
    refused = False
except ValueError as error:
    refused = True
    print("joined as they are:", str(error)[:120], "…")
joined = concatenate_datasets([here, there.cast(here.features)])
print("joined after cast:", named(joined))
mapping = {"ill": 0, "well": 1}
aligned = concatenate_datasets([here, there.align_labels_with_mapping(mapping, "label")])
print("joined after align_labels_with_mapping:", named(aligned))
seen = refused and named(there) == ["ill", "ill"] and named(joined)[2:] == ["well", "well"]
sys.exit(0 if seen and named(aligned)[2:] == ["ill", "ill"] else "the behaviour has changed")
PROGRAM
