"""Encoders of text."""

from families.batches import globally_attended
from families.specimen import SIZES, TOKENS, kind

_encoder = kind("encoder")
_BERT = {**SIZES, **TOKENS}
_CLASSES = {**_BERT, "num_labels": 3}

SPECIMENS = (
    _encoder("bert", "BertForSequenceClassification", _CLASSES),
    _encoder("roberta", "RobertaForSequenceClassification", _CLASSES),
    _encoder(
        "distilbert",
        "DistilBertForSequenceClassification",
        {
            "vocab_size": 97,
            "pad_token_id": 1,
            "dim": 32,
            "hidden_dim": 48,
            "n_layers": 2,
            "n_heads": 4,
            "num_labels": 3,
        },
    ),
    _encoder("albert", "AlbertForSequenceClassification", {**_CLASSES, "embedding_size": 16}),
    _encoder("electra", "ElectraForSequenceClassification", {**_CLASSES, "embedding_size": 16}),
    _encoder("xlm-roberta", "XLMRobertaForSequenceClassification", _CLASSES),
    _encoder("camembert", "CamembertForMaskedLM", _BERT),
    _encoder("mpnet", "MPNetForMaskedLM", _BERT),
    _encoder("deberta", "DebertaForSequenceClassification", _CLASSES),
    _encoder("deberta-v2", "DebertaV2ForSequenceClassification", _CLASSES),
    _encoder("modernbert", "ModernBertForMaskedLM", {**_BERT, "cls_token_id": 2, "sep_token_id": 3}),
    _encoder("nomic_bert", "NomicBertForMaskedLM", _BERT),
    _encoder("eurobert", "EuroBertForMaskedLM", {**_BERT, "num_key_value_heads": 2}),
    _encoder("esm", "EsmForMaskedLM", {**_BERT, "mask_token_id": 4, "position_embedding_type": "rotary"}),
    _encoder("roformer", "RoFormerForMaskedLM", _BERT),
    _encoder(
        "longformer",
        "LongformerForMaskedLM",
        {**_BERT, "attention_window": 4, "max_position_embeddings": 64},
        batch=globally_attended,
    ),
    _encoder("big_bird", "BigBirdForMaskedLM", {**_BERT, "attention_type": "original_full"}),
    _encoder(
        "funnel",
        "FunnelForMaskedLM",
        {
            "d_model": 32,
            "n_head": 4,
            "d_head": 8,
            "d_inner": 48,
            "block_sizes": [1, 1],
            "num_decoder_layers": 1,
            "vocab_size": 97,
        },
    ),
    _encoder("xlnet", "XLNetLMHeadModel", {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48, **TOKENS}),
    _encoder("fnet", "FNetForMaskedLM", _BERT),
)
