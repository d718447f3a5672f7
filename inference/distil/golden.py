"""Writes how the reference tokenizer cuts texts: inference/tests/tokens.json.

usage: golden.py WHEEL OUTPUT
"""

import json
import sys

from minilm import MiniLm

TEXTS = [
    "Hello, world!",
    "The quick brown fox jumps over the lazy dog.",
    "unaffable UNAFFABLE Unaffable",
    "Abū ʿAbd Allāh Muḥammad al-Battānī",
    "naïve café résumé Ångström",
    "nai\u0308ve cafe\u0301",
    "Mikołaj Kopernik, Toruń; Königsberg — Größe",
    "Μαθηματικὴ Σύνταξις",
    "обсерватория в горах",
    "天文台と望遠鏡",
    "中文分词 test 混合",
    "한국어 천문대",
    "مرصد فلكي",
    "मानमंदिर वेधशाला",
    "ทดสอบภาษาไทย",
    "1.337 seconds; 23°35′; 225,300 stars",
    "δ Cephei and 61 Cygni, M☉, Jₙ(x), λ",
    "a\u200bb zero\u00adwidth \ufeffbom",
    "tabs\tand\nnew\r\nlines\u00a0and\u2003spaces",
    "emoji 🪐🔭 and 👩‍🚀",
    "don't can’t it's “quoted” ‘single’",
    "foo_bar-baz.qux@example.org https://example.org/a?b=c#d",
    "$5.00 €3 £2 ¥100 100% a+b=c <tag> ~x^y `code` |pipe|",
    "ALL CAPS AND MiXeD cAsE",
    "x" * 100,
    "x" * 101,
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "",
    "   ",
    "...",
    "ǅungla ŉ ß İstanbul ﬁne ①②",
    "\u0000nul \u0007bell \ufffdreplacement",
    "e\u0301\u0327 a\u0300\u0301",
    "ｆｕｌｌｗｉｄｔｈ ＡＢＣ",
    "¿Qué? ¡Hola! «guillemets» 「日本」、。",
    "豈更車 \U00020000\U0002a6df",
    "𝐛𝐨𝐥𝐝 𝔣𝔯𝔞𝔨",
    "Cecilia Payne-Gaposchkin's thesis of 1925",
    "H2O CO2 pH7.4 3D-2D",
    "C++ and C# and F#",
    "Hubble–Lemaître law",
    "\u0344\u0958\u2126\u212b",
    "word\u2028line\u2029paragraph\u0085next",
    "##hash ##tags # #a",
    "ไม่มีช่องว่าง",
    "tel: +1 (555) 010-9999",
]


def main(wheel, output):
    model = MiniLm(wheel)
    cases = []
    for text in TEXTS:
        tokens = model.tokenizer.encode(text, add_special_tokens=False).tokens
        cases.append({"text": text, "tokens": tokens})
    with open(output, "w") as out:
        out.write("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
