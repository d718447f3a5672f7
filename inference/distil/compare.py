"""Compares the table with the model it came from: retrieval of articles, likeness of sentences.

usage: compare.py WHEEL TABLE ARTICLES_DIRECTORY QUESTIONS PAIRS_OUTPUT
"""

import json
import pathlib
import struct
import sys

import numpy as np

from minilm import MiniLm

PAIRS = [
    ("A man is playing a guitar.", "Someone plays an instrument."),
    ("A man is playing a guitar.", "A man is eating an apple."),
    ("The cat sat on the mat.", "A kitten rests on a rug."),
    ("The cat sat on the mat.", "Stock markets fell sharply today."),
    ("How do I reset my password?", "I forgot my login credentials."),
    ("How do I reset my password?", "How do I bake sourdough bread?"),
    ("The telescope was built on a mountain.", "An observatory stands on the peak."),
    ("The telescope was built on a mountain.", "The orchestra played a symphony."),
    ("She won the Nobel Prize in physics.", "He was awarded a prize for his discovery."),
    ("She won the Nobel Prize in physics.", "The train leaves at noon."),
    ("Interest rates were raised by the central bank.", "The bank increased borrowing costs."),
    ("Interest rates were raised by the central bank.", "The boat lay on the river bank."),
    ("The doctor prescribed antibiotics.", "The physician gave the patient medicine."),
    ("The doctor prescribed antibiotics.", "The lawyer filed a lawsuit."),
    ("Planets move around the Sun in ellipses.", "The orbits of planets are elliptical."),
    ("Planets move around the Sun in ellipses.", "The company reported its earnings."),
]


class Static:
    """The table, used as the Rust code uses it, hashed words aside."""

    def __init__(self, path, tokenizer):
        data = pathlib.Path(path).read_bytes()
        count, dimension, length = struct.unpack_from("<III", data, 16)
        tokens = data[28 : 28 + length].decode().split("\n")[:-1]
        scales = np.frombuffer(data, "<f4", count, 28 + length)
        rows = np.frombuffer(data, np.int8, count * dimension, 28 + length + 4 * count)
        self.table = rows.reshape(count, dimension) * scales[:, None]
        self.rows = {token: row for row, token in enumerate(tokens)}
        self.tokenizer = tokenizer

    def embed(self, text):
        tokens = self.tokenizer.encode(text, add_special_tokens=False).tokens
        vector = sum(self.table[self.rows[token]] for token in tokens if token in self.rows)
        return vector / np.linalg.norm(vector)


def retrieval(name, embed, articles, questions):
    slugs = list(articles)
    matrix = np.stack([embed(articles[slug]) for slug in slugs])
    ranks = []
    for question in questions:
        scores = matrix @ embed(question["question"])
        order = [slugs[i] for i in np.argsort(-scores)]
        ranks.append(order.index(question["article"]) + 1)
    at = lambda k: sum(rank <= k for rank in ranks) / len(ranks)
    mrr = sum(1 / rank for rank in ranks) / len(ranks)
    print(f"{name}: recall@1 {at(1):.2f}, recall@5 {at(5):.2f}, MRR {mrr:.3f}, ranks {ranks}")


def main(wheel, table, articles, questions, output):
    model = MiniLm(wheel)
    static = Static(table, model.tokenizer)
    paths = sorted(pathlib.Path(articles).glob("*.md"))
    texts = {path.stem: path.read_text() for path in paths if ".r" not in path.name}
    questions = json.loads(pathlib.Path(questions).read_text())
    retrieval("static", static.embed, texts, questions)
    retrieval("MiniLM", model.embed, texts, questions)
    pairs = []
    for a, b in PAIRS:
        true = float(model.embed(a) @ model.embed(b))
        ours = float(static.embed(a) @ static.embed(b))
        pairs.append({"a": a, "b": b, "minilm": round(true, 4)})
        print(f"{true:6.3f} {ours:6.3f}  {a} / {b}")
    pathlib.Path(output).write_text("[\n" + ",\n".join(json.dumps(p) for p in pairs) + "\n]\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
