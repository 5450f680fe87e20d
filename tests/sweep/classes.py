"""The classes that are swept: those of transformers' mappings, by task."""

from transformers.models.auto import modeling_auto

MAPPINGS = {
    "causal-lm": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "masked-lm": "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "seq2seq-lm": "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "sequence-classification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "token-classification": "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
    "image-classification": "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
}


def classes(task: str) -> list[str]:
    """Names of a task's model classes, each once, in the order of the mapping."""
    found: dict[str, None] = {}
    for value in getattr(modeling_auto, MAPPINGS[task]).values():
        found.update(dict.fromkeys([value] if isinstance(value, str) else value))
    return list(found)
