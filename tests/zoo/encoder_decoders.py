"""Encoder-decoders from text to text."""

from zoo.batches import globally_attended_to_text, text_to_text
from zoo.tiny_model import TOKENS, kind

_pair = kind("encoder-decoder")
BART = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 40,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "decoder_start_token_id": 1,
    **TOKENS,
}
_POSITIONS = {**BART, "max_position_embeddings": 64}
_T5 = {"d_model": 32, "d_ff": 48, "d_kv": 16, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 1, **TOKENS}

MODELS = (
    _pair("t5", "T5ForConditionalGeneration", _T5, batch=text_to_text),
    _pair("mt5", "MT5ForConditionalGeneration", _T5, batch=text_to_text),
    _pair("longt5", "LongT5ForConditionalGeneration", {**_T5, "local_radius": 3}, batch=text_to_text),
    _pair("bart", "BartForConditionalGeneration", _POSITIONS, batch=text_to_text),
    _pair("mbart", "MBartForConditionalGeneration", _POSITIONS, batch=text_to_text),
    _pair("pegasus", "PegasusForConditionalGeneration", _POSITIONS, batch=text_to_text),
    _pair("marian", "MarianMTModel", _POSITIONS, batch=text_to_text),
    _pair("m2m_100", "M2M100ForConditionalGeneration", _POSITIONS, batch=text_to_text),
    _pair(
        "led",
        "LEDForConditionalGeneration",
        {
            **BART,
            "attention_window": 4,
            "max_encoder_position_embeddings": 64,
            "max_decoder_position_embeddings": 64,
        },
        batch=globally_attended_to_text,
    ),
)
