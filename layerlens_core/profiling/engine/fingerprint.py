"""All that a profile's numbers depend on, as texts by name: workers compare them, and so does a run that is resumed."""

import importlib.metadata
from collections.abc import Sequence

import torch
import transformers
from transformers import PreTrainedModel

from layerlens_core.profiling.engine.settings import Settings
from layerlens_core.profiling.model import weights
from layerlens_core.profiling.samples import sample as data
from layerlens_core.profiling.samples.sample import Sample
from layerlens_core.values.inventory import LinearModule


def fingerprint(
    model: PreTrainedModel,
    targets: Sequence[LinearModule],
    samples: Sequence[Sample],
    task: str,
    settings: Settings,
) -> dict[str, str]:
    """By name, texts to compare: digests of the model and the data, the kind of device, versions, and every setting.

    Where the weights are sharded every process must call it; the result is that of whole weights.
    """
    names = [f"{target.name} {target.in_features} {target.out_features}" for target in targets]
    return {
        "model": f"{weights.digest(model)} {' '.join(names)}",
        "data": data.digest(samples),
        "device": model.device.type,
        "attention": str(getattr(model.config, "_attn_implementation", None)),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "layerlens": _version("layerlens-core"),
        "task": task,
        **{name.replace("_", "-"): text for name, text in settings.texts.items()},
    }


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:  # run from its sources
        return "of these sources"
