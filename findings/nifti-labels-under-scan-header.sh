#!/usr/bin/env bash
# A label map saved with its scan's header has no voxel of label 1, 2 or 3 left for nibabel, and all for SimpleITK.
#
# Expected: a segmentation that leaves a network as float32 with values 0, 1, 2, 3 is saved with the affine and
#   header of the scan it belongs to (so that it lies at the same place), and reads back as 0, 1, 2, 3: whole
#   numbers that small are exact in every type.
# Happens: the header brings the scan's type along, int16, and nibabel fits floats into it over its whole range:
#   stored are -32768, -10923, 10922 and 32767 with a slope. Read back, 0 is 0 but 1 is 0.99999999..., so
#   `== 1` finds nothing, and a cast to whole numbers makes every label the one below. SimpleITK scales the same
#   file in float32, where the sums round to whole numbers, and sees every label. With the map cast to uint8 first (or a
#   header of its own) both are exact: integers are never scaled.
# Versions: nibabel 5.4.2, SimpleITK 2.5.7, numpy 2.4.6.
# Why it matters: one site of a federation reads labels with the one library, another with the other; the same
#   file is a full segmentation here and an empty one there, and Dice or class counts differ without an error.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "nibabel==5.4.2" "SimpleITK==2.5.7" "numpy==2.4.6"
cd "$work"
"$work/venv/bin/python" - <<'PROGRAM'
import sys

import nibabel
import numpy as np
import SimpleITK

print(f"nibabel {nibabel.__version__}, SimpleITK {SimpleITK.Version_VersionString()}, numpy {np.__version__}")
rng = np.random.default_rng(0)
scan = rng.integers(-1000, 2000, (16, 16, 16)).astype(np.int16)
nibabel.save(nibabel.Nifti1Image(scan, np.eye(4)), "scan.nii")
scan = nibabel.load("scan.nii")
labels = rng.integers(0, 4, scan.shape).astype(np.float32)


def counts(of):
    return [int((of == label).sum()) for label in range(4)]


nibabel.save(nibabel.Nifti1Image(labels, scan.affine, scan.header), "labels.nii")
read = nibabel.load("labels.nii")
values = read.get_fdata()
other = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage("labels.nii"))
cast = np.bincount(values.astype(np.uint8).ravel(), minlength=4).tolist()
print("stored codes:                          ", np.unique(read.dataobj.get_unscaled()).tolist())
print("voxels of labels 0 to 3, as they were: ", counts(labels))
print("nibabel reads:                         ", counts(values), [float(v) for v in np.unique(values)])
print("and cast to whole numbers:             ", cast)
print("SimpleITK reads:                       ", counts(other))

nibabel.save(nibabel.Nifti1Image(labels.astype(np.uint8), scan.affine, scan.header), "whole.nii")
whole = counts(nibabel.load("whole.nii").get_fdata())
print("saved as uint8, nibabel reads:         ", whole)

lost = counts(values)[1:] == [0, 0, 0] and counts(values)[0] == counts(labels)[0]
seen = lost and cast != counts(labels) and counts(other) == counts(labels) == whole
sys.exit(0 if seen else "the behaviour has changed")
PROGRAM
