"""Tokenizers in the style of real models, small and trained on the corpus: each uses other components."""
import random
import sys
import unicodedata
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
O200K = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
])
CL100K = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
DEEPSEEK = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def train(tokenizer, texts, specials=CONTROL, size=3000, alphabet=None, **options):
    alphabet = pre_tokenizers.ByteLevel.alphabet() if alphabet is None else alphabet
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=specials, initial_alphabet=alphabet, show_progress=False, **options)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def byte_level(texts, pre, normalizer=None, **model):
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer = pre
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    return train(tokenizer, texts)


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def plain_bytes():
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def gpt2(texts):
    return byte_level(texts, pre_tokenizers.ByteLevel(add_prefix_space=False))


def smollm2(texts):
    tokenizer = byte_level(texts, pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]))
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def llama3(texts):
    tokenizer = byte_level(texts, pre_tokenizers.Sequence([split(LLAMA3), plain_bytes()]), ignore_merges=True)
    tokenizer.add_special_tokens(["<|begin_of_text|>", "<|eot_id|>"])
    bos = tokenizer.token_to_id("<|begin_of_text|>")
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", bos)]),
    ])
    return tokenizer


def qwen(texts):
    tokenizer = byte_level(texts, pre_tokenizers.Sequence([split(QWEN2), plain_bytes()]), normalizers.NFC())
    tokenizer.add_tokens([AddedToken("<tool_call>", normalized=False, special=False), AddedToken("</think>", normalized=False, special=False)])
    return tokenizer


def o200k(texts):
    return byte_level(texts, pre_tokenizers.Sequence([split(O200K, "removed", True), plain_bytes()]))


def cl100k(texts):
    return byte_level(texts, pre_tokenizers.Sequence([split(CL100K), plain_bytes()]), normalizers.NFKC())


def deepseek(texts):
    return byte_level(texts, pre_tokenizers.Sequence([split(r"\p{N}{1,3}"), split("[一-龥\u3040-ゟ゠-ヿ]+"), split(DEEPSEEK), plain_bytes()]))


def falcon(texts):
    """Digits and a split after the bytes have become characters; a prefix space; every kind of added token."""
    tokenizer = byte_level(texts, pre_tokenizers.Sequence([
        pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.ByteLevel(add_prefix_space=True),
        pre_tokenizers.Digits(individual_digits=False), split("[0-9][0-9][0-9]"),
    ]), normalizers.Sequence([normalizers.NFKD(), normalizers.Lowercase(), normalizers.StripAccents()]))
    tokenizer.add_tokens([
        AddedToken("<mask>", lstrip=True, rstrip=True, normalized=False, special=True), AddedToken("token", single_word=True, normalized=True),
        AddedToken("Str", normalized=True), AddedToken("</s>", rstrip=True, normalized=False), AddedToken("im", single_word=True, lstrip=True),
    ])
    return tokenizer


def llama2(texts):
    """No pre-tokenizer at all; unknown characters fall back to bytes."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    specials = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    # Training needs words; encoding then goes without the splitter, as the real one does.
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    train(tokenizer, texts, specials, alphabet=[], limit_alphabet=200)
    tokenizer = without_pre_tokenizer(tokenizer)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    return tokenizer


def without_pre_tokenizer(tokenizer):
    import json

    content = json.loads(tokenizer.to_str())
    content["pre_tokenizer"] = None
    content["added_tokens"] = [t for t in content["added_tokens"] if not t["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(content))


def gemma(texts):
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    specials = ["<unk>", "<bos>", "<eos>"] + [f"<0x{b:02X}>" for b in range(256)]
    train(tokenizer, texts, specials, alphabet=[], limit_alphabet=300)
    tokenizer = without_pre_tokenizer(tokenizer)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


def metaspace(texts, scheme="first", unk=True, fuse=False):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>" if unk else None, fuse_unk=fuse))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Strip(True, True), normalizers.Replace(Regex(r"\s{2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    return train(tokenizer, texts, ["<unk>", "</s>"], alphabet=[], limit_alphabet=150)


def whitespace(texts):
    """No decoder; suffixes; words of Rust's regex, punctuation and digits cut in every way."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>", continuing_subword_prefix="##"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation("merged_with_next"),
        pre_tokenizers.Digits(), split(r"[aeiou](?=[a-z])", "merged_with_previous"),
    ])
    return train(tokenizer, texts, ["<unk>"], alphabet=[], limit_alphabet=150, end_of_word_suffix="</w>", continuing_subword_prefix="##")


def lookbehind(texts):
    """Less common regular expressions: look-behind, lazy and possessive loops, boundaries, groups, nested classes."""
    return byte_level(texts, pre_tokenizers.Sequence([
        split(r"(?<=\n)#[^\n]*+|\b(?:if|for|while)\b|(?<!\w)_\w+?(?=\s)|(?:ab|a(?:bc)?)+", "contiguous"), split(r"^\s*|\s+$", "merged_with_next"),
        split(r"(?>\d+\.)\d|[[:digit:]&&[^5]]+|\p{Han}{2}|\P{^Lu}\p{Ll}*|[\w&&[^\d_]]+|.", "isolated"), plain_bytes(),
    ]))


def bert(texts, **normalizer):
    """WordPiece with everything that BERT does before it; accents and case go."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=30))
    tokenizer.normalizer = normalizers.BertNormalizer(**normalizer)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=3000, special_tokens=specials, limit_alphabet=400, show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def bert_cased(texts):
    tokenizer = bert(texts, lowercase=False, clean_text=False)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    return tokenizer


def roberta(texts):
    tokenizer = byte_level(texts, pre_tokenizers.ByteLevel(add_prefix_space=False))
    tokenizer.post_processor = processors.RobertaProcessing(("<|im_end|>", 2), ("<|im_start|>", 1), trim_offsets=True, add_prefix_space=False)
    return tokenizer


def charsmap():
    """A precompiled character map in the manner of SentencePiece's nmt_nfkc: what NFKC changes, white space, controls, and
    sequences with marks."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "compiler" / "tokenizer"))
    import make_unicode_tables

    images = {}
    for c in map(chr, range(1, 0x30000)):
        image = unicodedata.normalize("NFKC", c)
        category = unicodedata.category(c)
        if category == "Cc":
            images[c] = " " if c in "\t\n\r\x0c" else ""
        elif category in ("Zs", "Zl", "Zp") and c != " " or c == "\u200b":
            images[c] = " "
        elif image != c and category not in ("Cn", "Cs") and not "\uac00" <= c <= "\ud7a3" and (c < "\u3000" or hash_of(c) % 8 == 0):
            images[c] = image
        decomposed = unicodedata.normalize("NFD", c)
        if len(decomposed) == 2 and c < "\u2000" and image == c:
            images[decomposed] = c
    return make_unicode_tables.charsmap(images)


def hash_of(c):
    return random.Random(ord(c)).randrange(1 << 16)


def unigram(texts, normalizer, pre, specials=("<pad>", "</s>", "<unk>"), **model):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre
    trainer = trainers.UnigramTrainer(vocab_size=2500, special_tokens=list(specials), unk_token="<unk>", show_progress=False, shrinking_factor=0.5)
    # Every character trained on needs a token.
    tokenizer.train_from_iterator(["".join(c for c in t[:2000] if c < "\u0600") for t in texts[::3]], trainer)
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def t5(texts):
    tokenizer = unigram(texts, normalizers.Precompiled(charsmap()), pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]))
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    return tokenizer


def xlm_roberta(texts):
    tokenizer = unigram(texts, normalizers.Sequence([normalizers.Nmt(), normalizers.Precompiled(charsmap()), normalizers.Replace(Regex(" {2,}"), " ")]),
                        pre_tokenizers.Metaspace(prepend_scheme="always"), ["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return tokenizer


def unigram_bytes(texts):
    """Unknown characters fall back to bytes; no prefix space; the whole text is one word."""
    import json

    tokenizer = unigram(texts, normalizers.Sequence([normalizers.Strip(), normalizers.Replace(" ", "▁"), normalizers.Prepend("▁")]),
                        pre_tokenizers.Metaspace(prepend_scheme="never"))
    content = json.loads(tokenizer.to_str())
    content["pre_tokenizer"] = None
    content["model"]["byte_fallback"] = True
    content["model"]["vocab"] += [[f"<0x{b:02X}>", -20.0] for b in range(256)]
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return tokenizer


VARIANTS = {
    "gpt2": gpt2, "smollm2": smollm2, "llama3": llama3, "qwen": qwen, "o200k": o200k, "cl100k": cl100k, "deepseek": deepseek, "falcon": falcon,
    "llama2": llama2, "gemma": gemma, "metaspace_first": metaspace, "metaspace_always": lambda t: metaspace(t, "always", True, True),
    "metaspace_never": lambda t: metaspace(t, "never", False), "whitespace": whitespace, "lookbehind": lookbehind,
    "bert": bert, "bert_cased": bert_cased, "roberta": roberta, "t5": t5, "xlm_roberta": xlm_roberta, "unigram_bytes": unigram_bytes,
}
