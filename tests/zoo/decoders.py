"""Decoders with one feed-forward a layer, and hybrids with state spaces."""

from zoo.tiny_model import GROUPED, LABELS, LATENT, SIZES, THREE, TOKENS, kind

_decoder, _hybrid = kind("decoder"), kind("state space")
_GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, **TOKENS}
_WIDE = {**GROUPED, "head_dim": 16}
_FALCON = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, **TOKENS}
_DELTA = {
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "layer_types": ["linear_attention", "full_attention"],
}

MODELS = (
    _decoder("llama", "LlamaForCausalLM", {**GROUPED, **THREE}),
    _decoder(
        "llama-classifier",
        "LlamaForSequenceClassification",
        {**GROUPED, **THREE, "num_labels": LABELS},
        row=None,
    ),
    _decoder("mistral", "MistralForCausalLM", {**GROUPED, **THREE}),
    _decoder("qwen2", "Qwen2ForCausalLM", GROUPED),
    _decoder("qwen3", "Qwen3ForCausalLM", {**_WIDE, **THREE}),
    _decoder("gemma", "GemmaForCausalLM", {**_WIDE, **THREE, "num_key_value_heads": 1}),
    _decoder("gemma2", "Gemma2ForCausalLM", {**_WIDE, **THREE}),
    _decoder("gemma3", "Gemma3ForCausalLM", _WIDE),
    _decoder(
        "gemma4",
        "Gemma4ForCausalLM",
        {**_WIDE, "vocab_size_per_layer_input": 97, "hidden_size_per_layer_input": 8},
    ),
    _decoder("phi", "PhiForCausalLM", {**GROUPED, **THREE}),
    _decoder("phi3", "Phi3ForCausalLM", GROUPED),
    _decoder("stablelm", "StableLmForCausalLM", GROUPED),
    _decoder("starcoder2", "Starcoder2ForCausalLM", GROUPED),
    _decoder("olmo2", "Olmo2ForCausalLM", GROUPED),
    _decoder("granite", "GraniteForCausalLM", GROUPED),
    _decoder("glm4", "Glm4ForCausalLM", {**GROUPED, "head_dim": 8}),
    _decoder("cohere2", "Cohere2ForCausalLM", {**GROUPED, "head_dim": 8}),
    _decoder("nemotron", "NemotronForCausalLM", GROUPED),
    _decoder("smollm3", "SmolLM3ForCausalLM", GROUPED),
    _decoder("ernie4_5", "Ernie4_5ForCausalLM", GROUPED),
    _decoder("minicpm3", "MiniCPM3ForCausalLM", {**SIZES, **TOKENS, **LATENT}),
    _decoder("gpt2", "GPT2LMHeadModel", {**_GPT, "n_layer": 3}),
    _decoder("gpt-bigcode", "GPTBigCodeForCausalLM", _GPT),
    _decoder("gpt-neox", "GPTNeoXForCausalLM", {**SIZES, **THREE, **TOKENS}),
    _decoder(
        "gpt-neo",
        "GPTNeoForCausalLM",
        {
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "max_position_embeddings": 64,
            **TOKENS,
        },
    ),
    _decoder("gptj", "GPTJForCausalLM", {**_GPT, "n_layer": 3, "rotary_dim": 8}),
    _decoder("codegen", "CodeGenForCausalLM", {**_GPT, "rotary_dim": 8}),
    _decoder(
        "opt",
        "OPTForCausalLM",
        {**SIZES, **THREE, **TOKENS, "ffn_dim": 48, "word_embed_proj_dim": 16, "max_position_embeddings": 64},
    ),
    _decoder("bloom", "BloomForCausalLM", {"hidden_size": 32, "n_layer": 3, "n_head": 4, **TOKENS}),
    _decoder("falcon", "FalconForCausalLM", _FALCON),
    _decoder("falcon-grouped", "FalconForCausalLM", {**_FALCON, "num_kv_heads": 2, "new_decoder_architecture": True}),
    _decoder(
        "mpt", "MptForCausalLM", {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 64, "vocab_size": 97}
    ),
    _hybrid("mamba", "MambaForCausalLM", {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, **TOKENS}),
    _hybrid(
        "mamba2",
        "Mamba2ForCausalLM",
        {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "state_size": 4,
            "num_heads": 8,
            "head_dim": 8,
            "n_groups": 1,
            "chunk_size": 4,
            **TOKENS,
        },
    ),
    _hybrid(
        "recurrent-gemma",
        "RecurrentGemmaForCausalLM",
        {**GROUPED, "num_hidden_layers": 3, "attention_window_size": 16},
    ),
    _hybrid(
        "lfm2",
        "Lfm2ForCausalLM",
        {**GROUPED, "layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False},
    ),
    _hybrid("qwen3_5", "Qwen3_5ForCausalLM", {**_WIDE, **_DELTA}),
)
