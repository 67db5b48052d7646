#!/usr/bin/env bash
# An EEG in volts that is written to EDF comes back with other amplitudes.
#
# Expected: 16 bits over the stated range: an error of at most one part in 65536 of the range.
# Happens: EDF keeps the range's ends as text of 8 characters. pyedflib warns of "some loss of precision", and
#   names figures cut off before their exponent (3.066036 for 3.066036e-05); what it writes is 3e-05. The
#   samples are scaled to that, so a signal of 30 microvolts has errors of several per cent; in microvolts the
#   same signal comes back to 3 parts in 100000.
# Versions: pyedflib 0.1.42, numpy 2.4.6.
# Why it matters: sites whose recordings come from tools that keep volts (MNE does) and from tools that keep
#   microvolts give the same patient unlike amplitudes, by a factor of their own in each file: site effects
#   that a model learns.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "pyedflib==0.1.42" "numpy==2.4.6"
cd "$work"
"$work/venv/bin/python" - <<'PROGRAM'
import sys
import warnings

import numpy as np
import pyedflib

print("pyedflib", pyedflib.__version__)


def relative_error(signal, unit):
    header = {
        "label": "Fz", "dimension": unit, "sample_frequency": 256, "prefilter": "", "transducer": "",
        "physical_min": float(signal.min()), "physical_max": float(signal.max()),
        "digital_min": -32768, "digital_max": 32767,
    }  # fmt: skip
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        writer = pyedflib.EdfWriter("eeg.edf", 1, file_type=pyedflib.FILETYPE_EDFPLUS)
        writer.setSignalHeaders([header])
        writer.writeSamples([signal])
        writer.close()
    reader = pyedflib.EdfReader("eeg.edf")
    back, top = reader.readSignal(0), reader.getPhysicalMaximum(0)
    reader.close()
    error = np.abs(back - signal).max() / np.abs(signal).max()
    print(f"{unit}: largest {signal.max():.7g}, in the file {top:.7g}, error {error:.2e} of the largest")
    for warning in said:
        print("   said:", str(warning.message)[:150])
    return error


volts = np.random.default_rng(0).normal(size=256) * 1e-5
in_volts, in_microvolts = relative_error(volts, "V"), relative_error(volts * 1e6, "uV")
sys.exit(0 if in_volts > 0.02 and in_microvolts < 1e-4 else "the behaviour has changed")
PROGRAM
