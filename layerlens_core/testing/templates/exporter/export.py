"""Hand a plan to a trainer: an adapter directory, and the keys that name it."""

from pathlib import Path

from layerlens_core.plugin import ExportRequest, require_causal, require_lora, write_keys

FILE_NAME = "example-name.yaml"


def export(request: ExportRequest) -> tuple[Path, ...]:
    """Write the adapter and the keys. Raises `PlanError` where the plan has other methods than LoRA or another task."""
    require_lora(request.plan, "example-name")
    require_causal(request.plan, "example-name")
    keys = {"base_model": request.base, "adapter": str(request.out.resolve())}
    written = request.adapter()
    path = write_keys(request.out / FILE_NAME, keys, f"LayerLens plan {request.plan.digest[:16]}")
    request.say(f"train with the keys of {path}")
    return (*written, path)
