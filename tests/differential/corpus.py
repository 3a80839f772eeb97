"""Text to compare tokenizers on: English, code, many scripts, white space, every code point; from Python alone."""
import random
import sysconfig
import unicodedata
from pathlib import Path

# First and last letters of some scripts; words are drawn from the letters and marks between them.
SCRIPTS = {
    "Latin": (0x61, 0x24F), "Greek": (0x370, 0x3FF), "Cyrillic": (0x400, 0x4FF), "Armenian": (0x531, 0x58F),
    "Hebrew": (0x591, 0x5F4), "Arabic": (0x600, 0x6FF), "Devanagari": (0x900, 0x97F), "Bengali": (0x980, 0x9FF),
    "Tamil": (0xB80, 0xBFF), "Thai": (0xE01, 0xE5B), "Tibetan": (0xF00, 0xFDA), "Georgian": (0x10A0, 0x10FF),
    "Jamo": (0x1100, 0x11FF), "Ethiopic": (0x1200, 0x137C), "Khmer": (0x1780, 0x17F9), "Vietnamese": (0x1EA0, 0x1EFF),
    "Polytonic": (0x1F00, 0x1FFE), "Symbols": (0x2000, 0x2BFF), "Kana": (0x3041, 0x30FF), "Han": (0x4E00, 0x9FFF),
    "Hangul": (0xAC00, 0xD7A3), "Compatibility": (0xF900, 0xFB4F), "Forms": (0xFE30, 0xFFEF),
    "Gothic": (0x10330, 0x1034A), "Mathematical": (0x1D400, 0x1D7FF), "Emoji": (0x1F300, 0x1FAF8),
}
SPACES = [" ", "  ", "    ", "\t", "\n", "\n\n", "\r\n", " \n", "\n ", "\u00a0", "\u2003", "\u3000", "\u200b", "\u2028", "\x0b", "\x85"]
EDGES = [
    "", " ", "  ", "\n", "\n\n\n", "\t\t x", "a", "é", "e\u0301", "\u0301", "a\u0301\u0323b", "\u1100\u1161\u11a8", "\uac00\u11a8",
    "I'm you're we've he'll she'd IT'S DON'T 'Tis ‘s’", "ſ'ſ K", "1234567890 3.14159 1,000,000 ²³¹ ½ ٣٤٥ Ⅻ", "ﬁ ﬀ Å Å ｆｕｌｌ ㍿",
    "👩‍👩‍👧‍👦 🇫🇷🇩🇪 👍🏽 ☕️", "x" * 3000, " " * 3000 + "x", "\n" * 1000, "!?" * 500, "0" * 1000, "a b" * 500, "▁▁ ▁a", "Ġ Ċ ĉ",
    "<0x41><0xE2>", "\x00\x01\x7f", "\ufeffBOM", "\ufffd\ufffe", "İıßẞ ΑΣ Σ", "<|im_start|>user\nhi<|im_end|>", "a<|im_end|>b <|im_end|> c",
    "<s>", "</s> x", "x <unk>y", "<|endoftext|><|endoftext|>", "[INST] hi [/INST]", "word<mask>word <mask> x", "  <mask>  ", "tokens token Token",
]


def english(limit):
    """The language reference that comes with Python, as prose."""
    from pydoc_data.topics import topics

    text = "\n".join(topics[name] for name in sorted(topics))
    return [text[i : i + 20000] for i in range(0, min(len(text), limit), 20000)]


def code(limit):
    """Sources of the standard library, in order of name."""
    out, size = [], 0
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        text = path.read_text(encoding="utf-8", errors="replace")
        out.append(text)
        size += len(text)
        if size >= limit:
            break
    return out


def scripts(limit, random_):
    """Words of every script, alone and mixed, with punctuation, digits and white space between."""
    alphabets = {
        name: [chr(c) for c in range(low, high + 1) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
        for name, (low, high) in SCRIPTS.items()
    }
    out = []
    names = list(alphabets)
    for i in range(2 * len(names)):
        words, size = [], 0
        while size < limit // (2 * len(names)):
            name = names[i] if i < len(names) else random_.choice(names)
            word = "".join(random_.choices(alphabets[name], k=random_.randint(1, 9)))
            if random_.random() < 0.15:
                word += random_.choice(",.;:!?'\"()-–—…«»。、")
            if random_.random() < 0.05:
                word = str(random_.randint(0, 10**6))
            words.append(word + (" " if random_.random() < 0.8 else random_.choice(SPACES)))
            size += len(words[-1].encode())
        out.append("".join(words))
    return out


def white_space(limit, random_):
    out, size = [], 0
    while size < limit:
        text = "".join(
            random_.choice(SPACES) * random_.randint(1, 20) + random_.choice(["", "x", "if", "1", "\u00e9", "#", "'s", "_"])
            for _ in range(500)
        )
        out.append(text)
        size += len(text.encode())
    return out


def every_code_point(random_):
    """Each code point of the planes with characters, assigned or not (this Python may not know all), in order and shuffled."""
    points = [chr(c) for c in range(0x32400) if unicodedata.category(chr(c)) not in ("Cs", "Co")]
    shuffled = points[:]
    random_.shuffle(shuffled)
    marks = [p for p in points if unicodedata.combining(p)]
    marked = [random_.choice(points[:2000]) + "".join(random_.choices(marks, k=random_.randint(1, 4))) for _ in range(4000)]
    return ["".join(points[i : i + 5000]) for i in range(0, len(points), 5000)] + [
        " ".join(shuffled[i : i + 5000]) for i in range(0, min(len(points), 60000), 5000)
    ] + ["".join(marked), " ".join(marked)]


def corpus(size):
    """A list of texts of about `size` bytes in all; the same on every run."""
    random_ = random.Random(20261122)
    # A text may not hold half of a surrogate pair: nobody can encode it.
    texts = EDGES + english(size * 3 // 10) + code(size * 3 // 10) + scripts(size * 2 // 10, random_) + white_space(size // 10, random_)
    texts += every_code_point(random_) if size >= 1000000 else every_code_point(random_)[-2:]
    return [t for t in texts if not any(0xD800 <= ord(c) < 0xE000 for c in t)]
