"""A tiny tokenizer of whole words."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

if TYPE_CHECKING:
    import transformers

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<user>", "<assistant>")
WORDS = tuple(f"w{i}" for i in range(60))


@pytest.fixture
def tokenizer() -> "Callable[..., transformers.PreTrainedTokenizerFast]":
    """Make a tokenizer whose post-processor puts special tokens around a text as ``template`` says."""
    import transformers  # here, so that tests without a tokenizer need no torch

    def make(template: str = "$A", **special: str) -> "transformers.PreTrainedTokenizerFast":
        vocabulary = {word: i for i, word in enumerate((*SPECIAL, *WORDS))}
        words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
        words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        words.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
        )
        named = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "eos_token": "[SEP]"}
        named |= {"mask_token": "[MASK]"} | special
        return transformers.PreTrainedTokenizerFast(tokenizer_object=words, **named)

    return make
