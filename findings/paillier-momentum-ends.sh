#!/usr/bin/env bash
# An encrypted running average is right for 54 rounds and then something near zero, while every figure is
# below 1.
#
# Expected: v = 0.9 * v on a Paillier-encrypted number goes on for ever, like a float: it stays between 0 and
#   1 and the key has 3072 bits; if there is a limit, decryption raises.
# Happens: a float is held as whole mantissa and exponent, a product of an encrypted number and a float adds
#   their lengths, and nothing shortens an encrypted mantissa. Each round by 0.9 costs 56 bits of the key.
#   When the key is full the mantissa wraps round: about one decryption in three then raises OverflowError,
#   the others return a tiny number.
# Versions: phe 1.5.0 with its default key length.
# Why it matters: momentum, averages and learning rates on encrypted updates are products by a float each
#   round. A run tried for 20 rounds is right; in a longer one the model goes to zero as if it were well
#   regularised.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile "phe==1.5.0"
cd "$work"
"$work/venv/bin/python" - <<'PROGRAM'
import sys
from importlib.metadata import version

from phe import paillier

print("phe", version("phe"))
public, private = paillier.generate_paillier_keypair()
print("key of", public.n.bit_length(), "bits")
value, truth, right, raised, silent = public.encrypt(1.0), 1.0, 0, 0, []
for count in range(1, 71):
    value, truth = value * 0.9, truth * 0.9
    if 10 < count < 50:
        continue  # decrypting is slow, and the key is far from full
    try:
        seen = private.decrypt(value)
    except OverflowError:
        raised += 1
        continue
    if abs(seen - truth) < 1e-12:
        right = count
    else:
        silent.append((count, seen, truth))
print("right up to round", right)
print("afterwards", raised, "times OverflowError and", len(silent), "times another number, such as:")
for count, seen, truth in silent[:3]:
    print(f"  round {count}: decrypted {seen:.3g}, truth {truth:.3g}")
seen = right == 54 and raised + len(silent) == 16 and any(abs(s) < 1e-6 for _, s, _ in silent)
sys.exit(0 if seen else "the behaviour has changed")
PROGRAM
