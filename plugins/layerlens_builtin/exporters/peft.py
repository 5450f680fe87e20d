"""PEFT: the initialised adapter directory, from which every trainer on PEFT takes the ranks."""

from pathlib import Path

from layerlens_core.plugin import ExportRequest, other_methods


def export(request: ExportRequest) -> tuple[Path, ...]:
    """Write the adapter, and say who can load it."""
    written = request.adapter()
    others = ", ".join(other_methods(request.plan))
    loads = (
        f"it holds {others}: layerlens_core.load(model, directory, trainable=True) loads it; that needs LayerLens"
        if others
        else "pure LoRA: PeftModel.from_pretrained loads it, with is_trainable=True to train; no LayerLens needed"
    )
    request.say(loads)
    return written
