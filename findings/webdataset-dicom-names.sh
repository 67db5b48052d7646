#!/usr/bin/env bash
# All images of a study become one sample of a WebDataset.
#
# Expected: the files A.dcm and A.cls of a tar archive are one sample with the key A and the parts dcm and
#   cls.
# Happens: the key ends at the *first* dot of the file name. DICOM files are named by their UID, which is
#   digits and dots, so every file has the key "1" and the rest of the name is taken for its type: three
#   images with labels come out as one sample with six parts, and a decoder that is asked for "dcm" finds
#   none.
# Versions: webdataset 1.0.2.
# Why it matters: shards of this kind are how image sites feed training. A single dot within the names
#   ("scan1.5T-07.png") is enough, nothing is raised, and an epoch simply has fewer samples.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "webdataset==1.0.2" "numpy==2.4.6"
cd "$work"
"$work/venv/bin/python" - <<'PROGRAM'
import io
import sys
import tarfile
from importlib.metadata import version

import webdataset

print("webdataset", version("webdataset"))


def samples(names):
    with tarfile.open("shard.tar", "w") as archive:
        for label, name in enumerate(names):
            for ending, content in (("dcm", f"image of {name}"), ("cls", str(label))):
                entry = tarfile.TarInfo(f"{name}.{ending}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content.encode()))
    found = []
    for sample in webdataset.WebDataset("shard.tar", shardshuffle=False):
        parts = {key: value for key, value in sample.items() if not key.startswith("__")}
        found.append((sample["__key__"], sorted(parts)))
    return found


plain = samples(["a1", "a2", "a3"])
uids = samples(["1.2.840.113619.2.1", "1.2.840.113619.2.2", "1.2.840.113619.2.3"])
print("names without dots:", plain)
print("names that are UIDs:", uids)
seen = len(plain) == 3 and len(uids) == 1 and uids[0][0] == "1" and len(uids[0][1]) == 6
sys.exit(0 if seen else "the behaviour has changed")
PROGRAM
