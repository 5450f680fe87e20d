"""Configurations of models, as a ``config.json`` holds them."""

from typing import Any

import transformers

import zoo


def configuration(name: str, **changes: Any) -> transformers.PreTrainedConfig:
    """Of a model of the zoo, which names its class; changes: of its sizes."""
    family = zoo.find(name).with_config(**changes)
    config = getattr(transformers, family.architecture).config_class(**family.config)
    config.architectures = [family.architecture]
    return config
