"""Models large enough that their layers outweigh what the prediction of costs does not count."""

import torch
import transformers

from zoo.tiny_model import kind

LENGTH = 64
WIDE_VOCABULARY = 500
_TOKENS = {"vocab_size": WIDE_VOCABULARY, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3}
_SIZES = {
    "hidden_size": 128,
    "intermediate_size": 320,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    **_TOKENS,
}
_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_GPT2 = {
    "n_embd": 128,
    "n_layer": 8,
    "n_head": 4,
    "n_positions": 128,
    **_TOKENS,
    "attn_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "resid_pdrop": 0.0,
}
_T5 = {"d_model": 128, "d_ff": 320, "d_kv": 32, "num_layers": 4, "num_heads": 4, "decoder_start_token_id": 1, **_TOKENS}
_EXPERTS = {"head_dim": 32, "moe_intermediate_size": 96, "num_experts": 8, "num_experts_per_tok": 2}
_decoder = kind("decoder")

MODELS = (
    _decoder("llama-wide", "LlamaForCausalLM", {**_SIZES, "num_key_value_heads": 2}, row=None),
    _decoder("qwen3-wide", "Qwen3ForCausalLM", {**_SIZES, "num_key_value_heads": 2, "head_dim": 64}, row=None),
    kind("encoder")("bert-wide", "BertForMaskedLM", {**_SIZES, **_NO_DROPOUT}, row=None),
    _decoder("gpt2-wide", "GPT2LMHeadModel", _GPT2, row=None),
    _decoder("opt-wide", "OPTForCausalLM", {**_SIZES, "ffn_dim": 320, "word_embed_proj_dim": 64}, row=None),
    _decoder("gpt-neox-wide", "GPTNeoXForCausalLM", _SIZES, row=None),
    kind("encoder-decoder")("t5-wide", "T5ForConditionalGeneration", _T5, row=None),
    kind("mixture")(
        "qwen3_moe-wide", "Qwen3MoeForCausalLM", {**_SIZES, "num_key_value_heads": 2, **_EXPERTS}, row=None
    ),
)


def build(family: str, attention: str = "eager", dtype: torch.dtype = torch.float32) -> transformers.PreTrainedModel:
    """A model of a family, ready to be trained."""
    (model,) = (model for model in MODELS if model.name == f"{family}-wide")
    # Grouped products of experts are not among those that PyTorch counts.
    how = {"attn_implementation": attention, "experts_implementation": "eager", "use_cache": False}
    return model.with_config(**how).build(spread=None, dtype=dtype).train()


def samples(count: int = 3, length: int = LENGTH) -> list[dict[str, torch.Tensor]]:
    """Samples of one length, labelled with themselves."""
    generator = torch.Generator().manual_seed(1)
    tokens = [torch.randint(4, WIDE_VOCABULARY, (length,), generator=generator) for _ in range(count)]
    return [{"input_ids": t, "attention_mask": torch.ones_like(t), "labels": t} for t in tokens]
