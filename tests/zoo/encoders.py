"""Encoders of text."""

from zoo.batches import globally_attended
from zoo.tiny_model import LABELS, PAD, SIZES, THREE, TOKENS, VOCABULARY, kind

_encoder = kind("encoder")
_BERT = {**SIZES, **TOKENS}
_CLASSES = {**_BERT, "num_labels": LABELS}
_DISTILBERT = {
    "vocab_size": VOCABULARY,
    "pad_token_id": PAD,
    "dim": 32,
    "hidden_dim": 48,
    "n_layers": 3,
    "n_heads": 4,
    "num_labels": LABELS,
}
_ALBERT = {**_CLASSES, **THREE, "embedding_size": 16}

MODELS = (
    _encoder("bert-classifier", "BertForSequenceClassification", {**_CLASSES, **THREE}, row="bert"),
    _encoder("bert", "BertForMaskedLM", {**_CLASSES, **THREE}, row=None),
    _encoder("roberta-classifier", "RobertaForSequenceClassification", {**_CLASSES, **THREE}, row="roberta"),
    _encoder("roberta", "RobertaForMaskedLM", {**_CLASSES, **THREE}, row=None),
    _encoder("distilbert-classifier", "DistilBertForSequenceClassification", _DISTILBERT, row="distilbert"),
    _encoder("distilbert", "DistilBertForMaskedLM", _DISTILBERT, row=None),
    _encoder("albert-classifier", "AlbertForSequenceClassification", _ALBERT, row="albert"),
    _encoder("albert", "AlbertForMaskedLM", _ALBERT, row=None),
    _encoder("electra", "ElectraForSequenceClassification", {**_CLASSES, "embedding_size": 16}),
    _encoder("xlm-roberta", "XLMRobertaForSequenceClassification", _CLASSES),
    _encoder("camembert", "CamembertForMaskedLM", _BERT),
    _encoder("mpnet", "MPNetForMaskedLM", _BERT),
    _encoder("deberta", "DebertaForSequenceClassification", _CLASSES),
    _encoder("deberta-v2", "DebertaV2ForSequenceClassification", _CLASSES),
    _encoder("deberta-v2-masked", "DebertaV2ForMaskedLM", {**_BERT, **THREE}, row=None),
    _encoder("modernbert", "ModernBertForMaskedLM", {**_BERT, **THREE, "cls_token_id": 2, "sep_token_id": 3}),
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
