"""Sound."""

from zoo.batches import features, features_to_text, spectrogram, waveform
from zoo.encoder_decoders import BART
from zoo.tiny_model import SIZES, TOKENS, kind

_sound = kind("speech")
_CONVOLUTIONS = {
    **SIZES,
    **TOKENS,
    "conv_dim": [16, 16],
    "conv_stride": [4, 4],
    "conv_kernel": [8, 4],
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}

MODELS = (
    _sound(
        "whisper",
        "WhisperForConditionalGeneration",
        {**BART, "num_mel_bins": 8, "max_source_positions": 8, "max_target_positions": 64},
        batch=features_to_text,
    ),
    _sound("wav2vec2", "Wav2Vec2ForCTC", _CONVOLUTIONS, batch=waveform),
    _sound("hubert", "HubertForCTC", _CONVOLUTIONS, batch=waveform),
    _sound("wavlm", "WavLMForCTC", _CONVOLUTIONS, batch=waveform),
    _sound(
        "wav2vec2-bert",
        "Wav2Vec2BertForCTC",
        {**SIZES, **TOKENS, "feature_projection_input_dim": 8},
        batch=features,
    ),
    _sound(
        "ast",
        "ASTForAudioClassification",
        {
            **SIZES,
            "patch_size": 4,
            "frequency_stride": 4,
            "time_stride": 4,
            "max_length": 16,
            "num_mel_bins": 8,
            "num_labels": 3,
        },
        batch=spectrogram,
    ),
)
