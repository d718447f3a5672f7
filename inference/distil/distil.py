"""Distils MiniLM into a table of one vector per token: see README.md beside this file.

usage: distil.py WHEEL OUTPUT_DIRECTORY
"""

import hashlib
import pathlib
import struct
import sys

import numpy as np

from minilm import MiniLm

DIMENSIONS = 256
BATCH = 256
# Smooth inverse frequency (Arora et al. 2017): a token's weight is A / (A + its probability).
A = 5e-5
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
MAGIC = b"STEMMA-STATIC-1\n"


def token_vectors(model, ids):
    """What the model makes of each token when it stands alone."""
    cls, sep = model.vocabulary.index("[CLS]"), model.vocabulary.index("[SEP]")
    parts = []
    for start in range(0, len(ids), BATCH):
        rows = np.array([[cls, token, sep] for token in ids[start : start + BATCH]])
        parts.append(model.states(rows).mean(1))
    return np.concatenate(parts)


def principal(vectors, dimensions):
    """Projects onto the directions in which the vectors differ most."""
    centred = vectors.astype(np.float64) - vectors.mean(0, dtype=np.float64)
    values, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, np.argsort(values)[::-1][:dimensions]]
    # The sign of an axis is arbitrary: the largest part is made positive, so that runs agree.
    axes *= np.sign(axes[np.abs(axes).argmax(0), np.arange(dimensions)])
    kept = np.sort(values)[::-1][:dimensions].sum() / values.sum()
    print(f"{dimensions} dimensions keep {kept:.1%} of the variance")
    return centred @ axes


def weights(count):
    """Weights by Zipf's law: the vocabulary is in the order of frequency."""
    probability = 1 / np.arange(2, count + 2)
    probability /= probability.sum()
    return A / (A + probability)


def main(wheel, output):
    digest = hashlib.sha256(pathlib.Path(wheel).read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise SystemExit(f"{wheel} has sha256 {digest}, expected {WHEEL_SHA256}")
    model = MiniLm(wheel)
    dropped = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
    keep = [
        id
        for id, token in enumerate(model.vocabulary)
        if token not in dropped and not token.startswith("[unused")
    ]
    table = principal(token_vectors(model, keep), DIMENSIONS)
    table *= weights(len(keep))[:, None]
    # Each row is stored as whole numbers from -127 to 127 and the scale that makes them large.
    scales = (np.abs(table).max(1) / 127).astype(np.float32)
    rows = np.rint(table / scales[:, None].astype(np.float64)).astype(np.int8)
    tokens = [model.vocabulary[id] for id in keep]
    text = "".join(f"{token}\n" for token in tokens).encode()
    body = (
        MAGIC
        + struct.pack("<III", len(tokens), DIMENSIONS, len(text))
        + text
        + scales.astype("<f4").tobytes()
        + rows.tobytes()
    )
    path = pathlib.Path(output) / "static-minilm-256.bin"
    path.write_bytes(body)
    print(f"{path}: {len(tokens)} tokens, {len(body)} bytes, sha256 {hashlib.sha256(body).hexdigest()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
