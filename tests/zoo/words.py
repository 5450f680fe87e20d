"""Models that are saved with a tokenizer of a few words, and the words."""

from transformers import PreTrainedTokenizerFast

from word_list import WORDS
from zoo.tiny_model import kind

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4, "num_attention_heads": 2}
_TOKENS = {
    "vocab_size": len(SPECIAL) + len(WORDS),
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "max_position_embeddings": 64,
}
_T5 = {"d_model": 16, "d_ff": 24, "d_kv": 8, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0, **_TOKENS}

MODELS = (
    kind("decoder")("llama-words", "LlamaForCausalLM", {**_SIZES, **_TOKENS}, row=None),
    kind("encoder")("bert-words", "BertForMaskedLM", {**_SIZES, **_TOKENS}, row=None),
    kind("encoder-decoder")("t5-words", "T5ForConditionalGeneration", _T5, row=None),
)
#: What the tokenizer of each puts around a text.
TEMPLATES = {"llama-words": "$A", "bert-words": "[CLS] $A [SEP]", "t5-words": "$A [SEP]"}


def tokenizer(template: str) -> PreTrainedTokenizerFast:
    """One word, one token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {word: i for i, word in enumerate((*SPECIAL, *WORDS))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="[PAD]",
        unk_token="[UNK]",
        bos_token="[CLS]",
        cls_token="[CLS]",
        eos_token="[SEP]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
