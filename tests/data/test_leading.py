"""The first and last tokens of a part are those of the whole text, for tokenizers of every kind."""

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from layerlens_core.data.leading import leading, trailing
from layerlens_core.errors import DataError

LM = Path(__file__).parents[2].parent / "shared" / "lm"
#: What texts are made of: words, runs of one character, blanks, other alphabets, marks that combine, long words.
PIECES = (
    "the", "cat", "sees", "strawberries", "a" * 40, "ab" * 30, "aaa", "  ", "\n\n", "\t", ".", "…", "don't",
    "x = y[0]", "東京都に住む", "привет", "e\u0301a\u0323\u0301",
    "👩‍👩‍👧", "ﬁne", "ﷺ", "1234567890", "http://a.b/c?d=e", "\u200b",
    "İI", "q" * 130,
)  # fmt: skip


def text_of(draw: random.Random, length: int) -> str:
    few = draw.sample(PIECES, draw.randint(1, len(PIECES)))
    joint = draw.choice(["", " ", " ", " ", "  ", "\n"])
    made = ""
    while len(made) < length:
        made += joint.join(draw.choices(few, k=50)) + joint
    return made[: length + draw.randint(-9, 9)]


def corpus() -> list[str]:
    draw = random.Random(0)
    return [text_of(draw, 400) for _ in range(60)]


def byte_level() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet))
    return made


def whole_text_bpe() -> Tokenizer:
    """As Llama's: the text is one word, so that any pair may be merged."""
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=600, special_tokens=["<unk>"]))
    return made


def word_pieces() -> Tokenizer:
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[UNK]", "[CLS]", "[SEP]"]
    made.train_from_iterator(corpus(), trainers.WordPieceTrainer(vocab_size=600, special_tokens=special))
    pairs = [(name, made.token_to_id(name)) for name in special[1:]]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=pairs)
    return made


def unigram() -> Tokenizer:
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Strip()])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=500, unk_token="<unk>", special_tokens=["<unk>"])
    made.train_from_iterator(corpus(), trainer)
    return made


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "byte-level": byte_level,
    "whole-text": whole_text_bpe,
    "word-pieces": word_pieces,
    "unigram": unigram,
}


@cache
def tokenizer(kind: str) -> Any:
    if kind != "language-model":
        return transformers.PreTrainedTokenizerFast(tokenizer_object=KINDS[kind]())
    if not LM.is_dir():
        pytest.skip("the tokenizer of ../shared/lm is not there")
    return transformers.AutoTokenizer.from_pretrained(str(LM))


@pytest.mark.parametrize("kind", [*KINDS, "language-model"])
@pytest.mark.parametrize("special", [True, False])
def test_the_tokens_of_a_part_are_those_of_the_whole(kind: str, special: bool) -> None:
    made, shortened = tokenizer(kind), 0
    for seed in range(30):
        draw = random.Random(seed)
        text, count = text_of(draw, draw.choice([500, 5_000, 40_000])), draw.choice([1, 2, 7, 32])
        whole = made(text, add_special_tokens=special, verbose=False)["input_ids"]
        for part, kept in ((leading, slice(None, count)), (trailing, slice(-count, None))):
            found = part(text, made, count, special=special)
            shortened += len(found) < len(text)
            assert made(found, add_special_tokens=special, verbose=False)["input_ids"][kept] == whole[kept], seed
    assert shortened > 10


def test_short_texts_are_taken_whole_and_unseen() -> None:
    class Never:
        def __call__(self, *_: object, **__: object) -> None:
            raise AssertionError("it was encoded")

    never: Any = Never()
    assert leading("x" * 1000, never, 16) == trailing("x" * 1000, never, 16) == "x" * 1000


def test_no_more_is_encoded_than_needed() -> None:
    made, seen = tokenizer("byte-level"), []

    def counting(text: str, **options: Any) -> Any:
        seen.append(len(text))
        return made(text, **options)

    text = "the cat sees " * 400_000
    encode: Any = counting
    assert len(leading(text, encode, 256)) < 20_000
    assert len(trailing(text, encode, 256)) < 20_000
    assert sum(seen) < 80_000
    seen.clear()
    assert len(trailing("東京都に住む" * 400_000, encode, 256)) < 20_000
    assert sum(seen) < 200_000


@pytest.mark.parametrize("kind", [*KINDS, "language-model"])
def test_ends_without_a_blank_are_those_of_the_whole_too(kind: str) -> None:
    made = tokenizer(kind)
    for seed in range(15):
        draw = random.Random(seed)
        # Periods of one character and of several: pairs of what repeats may be merged from either end.
        text = draw.choice(["a", "ab", "strawberries", "東京都に住む", "12345", "привет!", "the"]) * 3_000 + "x" * (
            seed % 3
        )
        text = text[seed % 7 :]
        whole = made(text, verbose=False)["input_ids"]
        assert made(trailing(text, made, 8), verbose=False)["input_ids"][-8:] == whole[-8:], seed


def test_what_cannot_be_parted_is_refused_before_it_fills_the_memory() -> None:
    made = tokenizer("word-pieces")
    for part in (leading, trailing):
        with pytest.raises(
            DataError, match=r"a text of 4,000,000 characters gives hardly a token.* in 2,097,152 of them"
        ):
            part("q" * 4_000_000, made, 8)


def test_a_text_that_gives_too_few_tokens_is_taken_whole() -> None:
    blank = " " * 50_000 + "the cat"
    made = tokenizer("word-pieces")
    assert leading(blank, made, 8) == blank
    assert trailing("q" * 50_000, made, 8) == "q" * 50_000
