#!/usr/bin/env python3
"""Writes unicode_tables.inc: what the Python package `tokenizers` believes about every code point.

Exactness means agreeing with Hugging Face tokenizers, whose regex engine, Rust standard library and normalization
crate each carry their own Unicode version. So nothing is taken from a Unicode release: each table is asked of
the package itself. Run with: make_unicode_tables.py > unicode_tables.inc (needs tokenizers==0.23.3, takes a minute).
"""
import struct
import sys

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co Cn".split()
SCRIPTS = "Han Hiragana Katakana Hangul Thai Latin Cyrillic Greek Arabic Hebrew Devanagari Bengali Tamil".split()


def ranges(members):
    """Sorted code points as inclusive ranges; the surrogates, never seen in text, do not break a range."""
    out = []
    for c in sorted(members):
        if out and (out[-1][1] == c - 1 or (out[-1][1] == 0xD7FF and c == 0xE000)):
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def matched(step):
    """Code points that `step`, a pre-tokenizer isolating its matches, cuts out of 'x'-free text."""
    members = set()
    # A guard that never matches cuts the text into runs; an isolated match is a piece of one character that the same
    # pre-tokenizer also isolates between two guards.
    for start in range(0, len(CODE_POINTS), 65536):
        block = CODE_POINTS[start : start + 65536]
        text = "".join(map(chr, block))
        for piece, (begin, end) in step.pre_tokenize_str(text):
            members.update(block[begin:end])
    return members


def regex_set(pattern):
    return matched(pre_tokenizers.Split(Regex(pattern), "removed", invert=True))


def predicate_set(step):
    """Members of a pre-tokenizer without `invert`: each code point is tried between two guard letters."""
    members = set()
    for start in range(0, len(CODE_POINTS), 4096):
        block = CODE_POINTS[start : start + 4096]
        text = "".join("x" + chr(c) for c in block) + "x"
        starts = {begin for _, (begin, _) in step.pre_tokenize_str(text)}
        members.update(c for i, c in enumerate(block) if 2 * i + 2 in starts)
    return members


def word_set():
    """`\\w` of the regex that guards single-word added tokens."""
    tokenizer = Tokenizer(models.BPE(vocab={"\0": 0}, merges=[]))
    tokenizer.add_tokens([AddedToken("\x01", single_word=True, normalized=False)])
    members = set()
    for start in range(0, len(CODE_POINTS), 4096):
        block = [c for c in CODE_POINTS[start : start + 4096] if c > 1]
        # Each line is "<c><token>": the token is found unless c is a word character.
        for c, encoding in zip(block, tokenizer.encode_batch([chr(c) + "\x01" for c in block])):
            if 1 not in encoding.ids:
                members.add(c)
    return members


def mapping(normalizer):
    """{code point: its image} for those that change alone."""
    out = {}
    for c in CODE_POINTS:
        image = normalizer.normalize_str(chr(c))
        if image != chr(c):
            out[c] = image
    return out


def is_hangul_syllable(c):
    return 0xAC00 <= c <= 0xD7A3


def combining_classes(nfd):
    """{code point: class} by watching which marks NFD swaps; classes are renumbered densely, their order is kept."""

    def swaps(a, b):
        return a != b and nfd.normalize_str("a" + chr(a) + chr(b)) == "a" + chr(b) + chr(a)

    alone = [c for c in CODE_POINTS if nfd.normalize_str(chr(c)) == chr(c)]
    # U+0334 has class 1 and U+0345 has class 240: together they move every mark but their own classes.
    marks = [c for c in alone if c in (0x334, 0x345) or swaps(c, 0x334) or swaps(0x345, c)]
    representatives = []  # one mark per class, ascending
    out = {}
    for c in marks:
        low, high = 0, len(representatives)
        while low < high:
            middle = (low + high) // 2
            if swaps(c, representatives[middle]):
                low = middle + 1
            else:
                high = middle
        if low == len(representatives) or swaps(representatives[low], c):
            representatives.insert(low, c)
    for c in marks:
        out[c] = 1 + sum(swaps(c, r) for r in representatives)
    return out


def compositions(nfc, nfd):
    """[(first, second, composed)], the Hangul syllables left out: they follow from arithmetic."""
    out = []
    for c in CODE_POINTS:
        parts = nfd.normalize_str(chr(c))
        if parts == chr(c) or is_hangul_syllable(c) or nfc.normalize_str(parts) != chr(c):
            continue
        first = nfc.normalize_str(parts[:-1])
        if len(first) == 1 and nfc.normalize_str(first + parts[-1]) == chr(c):
            out.append((ord(first), ord(parts[-1]), c))
    return out


def charsmap(images):
    """A precompiled character map of SentencePiece, {text: its image}: a darts-clone trie, here one block of 256 units per node."""
    texts, offsets, units, blocks = b"", {}, {0: 0}, {b"": 256}
    for key, image in images.items():
        offsets[key.encode()] = len(texts)
        texts += image.encode() + b"\0"
    prefixes = sorted({key[:i] for key in offsets for i in range(1, len(key) + 1)})
    for prefix in prefixes:
        blocks[prefix] = 256 * (len(blocks) + 1)
    units[0] = 256 << 10
    for prefix in prefixes:
        at = blocks[prefix[:-1]] ^ prefix[-1]
        units[at] = prefix[-1] | (prefix in offsets) << 8 | (at ^ blocks[prefix]) << 10
        if prefix in offsets:
            units[blocks[prefix]] = offsets[prefix] | 1 << 31
    size = 256 * (len(blocks) + 1)
    return struct.pack(f"<I{size}I", 4 * size, *(units.get(i, 0) for i in range(size))) + texts


def grapheme_sets():
    """Where the grapheme clusters matter that Precompiled looks up (those below six bytes): which characters join the one
    before, which let nothing join them, which join the one after."""
    joined = normalizers.Precompiled(charsmap({"a": "b"}))
    join = {c for c in CODE_POINTS if joined.normalize_str("a" + chr(c)) == "b" and c != 0}
    marked = normalizers.Precompiled(charsmap({"a\u0301": "b"}))
    prepend = {c for c in CODE_POINTS if "b" not in marked.normalize_str(chr(c) + "a\u0301")}
    # The cluster of c and U+0301 would become one "b" if c let it join.
    control = set()
    for c in CODE_POINTS:
        if c and c not in join and len(chr(c).encode()) < 4:
            if normalizers.Precompiled(charsmap({chr(c): "b"})).normalize_str(chr(c) + "\u0301") != "b":
                control.add(c)
    return {"GraphemeJoin": join, "GraphemePrepend": prepend, "GraphemeControl": control}


def emit(kind, name, numbers):
    """One array of numbers on few long lines: the file is data, not for reading."""
    print(f"static constexpr uint32_t {kind}{name}[] = {{")
    line = ""
    for n in numbers:
        item = f"{n},"
        if len(line) + len(item) > 480:
            print(line)
            line = ""
        line += item
    print(line + "};")


def emit_map(name, images):
    emit("map", name, [n for c, image in sorted(images.items()) for n in (c, len(image), *map(ord, image))])


def main():
    print(f"// Unicode tables as tokenizers {tokenizers.__version__} sees them; generated by make_unicode_tables.py.")
    print("// clang-format off")
    sets = {c: regex_set(rf"\p{{{c}}}") for c in CATEGORIES}
    sets |= {s: regex_set(rf"\p{{{s}}}") for s in SCRIPTS}
    sets["RegexSpace"] = regex_set(r"\s")
    sets["RegexWord"] = regex_set(r"\w")
    sets["RustNumeric"] = predicate_set(pre_tokenizers.Digits(individual_digits=True))
    sets["RustPunctuation"] = predicate_set(pre_tokenizers.Punctuation("isolated"))
    sets["RustSpace"] = predicate_set(pre_tokenizers.WhitespaceSplit())
    sets["RustWord"] = word_set()
    bert = lambda **on: normalizers.BertNormalizer(**{"clean_text": False, "handle_chinese_chars": False, "strip_accents": False, "lowercase": False} | on)
    cleaned = mapping(bert(clean_text=True))
    sets["BertRemoved"] = {c for c, image in cleaned.items() if image == ""}
    sets["BertSpace"] = {c for c, image in cleaned.items() if image == " "} | {ord(" ")}
    assert len(sets["BertRemoved"]) + len(sets["BertSpace"]) == len(cleaned) + 1
    sets["BertChinese"] = set(mapping(bert(handle_chinese_chars=True)))
    sets |= grapheme_sets()
    for letter in "abcdefghijklmnopqrstuvwxyz":
        folded = regex_set(f"(?i:{letter})")
        if folded != {ord(letter), ord(letter) - 32}:
            sets["Fold_" + letter] = folded
    for name, members in sets.items():
        emit("set", name, [n for pair in ranges(members) for n in pair])
    nfc, nfd, nfkd = normalizers.NFC(), normalizers.NFD(), normalizers.NFKD()
    canonical = {c: m for c, m in mapping(nfd).items() if not is_hangul_syllable(c)}
    compatible = {c: m for c, m in mapping(nfkd).items() if not is_hangul_syllable(c)}
    emit_map("Canonical", canonical)
    # Only what NFKD does beyond NFD, to keep the table small.
    emit_map("Compatible", {c: m for c, m in compatible.items() if canonical.get(c) != m})
    emit_map("Lowercase", mapping(normalizers.Lowercase()))
    emit_map("StripAccents", {c: "" for c in mapping(normalizers.StripAccents())})
    emit_map("BertAccents", {c: "" for c, image in mapping(bert(strip_accents=True)).items() if image == ""})
    emit_map("Nmt", mapping(normalizers.Nmt()))
    classes = combining_classes(nfd)
    emit("table", "CombiningClasses", [n for c in sorted(classes) for n in (c, classes[c])])
    emit("table", "Compositions", [n for triple in compositions(nfc, nfd) for n in triple])
    print("// clang-format on")
    print("struct NamedSet {\n  const char *name;\n  const uint32_t *numbers;\n  size_t count;\n};")
    print("static constexpr NamedSet namedSets[] = {")
    for name in sets:
        print(f'    {{"{name}", set{name}, std::size(set{name})}},')
    print("};")
    print(f"done: {len(sets)} sets", file=sys.stderr)


if __name__ == "__main__":
    main()
