"""LLaMA-Factory: the initialised adapter, and keys that continue it (LLaMA-Factory 0.9.5, ``model/adapter.py``).

It has one ``lora_rank`` and no patterns, and matches ``lora_target`` by the ends of names, so the ranks must come from
the adapter. With ``adapter_name_or_path`` and without ``create_new_adapter`` it trains the last adapter named, and
reads none of ``lora_rank``, ``lora_alpha``, ``lora_dropout`` and ``lora_target``; these are left out, since they would
have no effect.
"""

from pathlib import Path

from layerlens_core.plugin import ExportRequest, FileError, recipe_keys, require_causal, require_lora, write_keys

FILE_NAME = "llama_factory.yaml"


def export(request: ExportRequest) -> tuple[Path, ...]:
    """Write the adapter and ``llama_factory.yaml``.

    Raises `PlanError` where the plan has other methods or another task, and `FileError` where LLaMA-Factory would read
    the directory's name as several names.
    """
    require_lora(request.plan, "LLaMA-Factory")
    require_causal(request.plan, "LLaMA-Factory")
    adapter = str(request.out.resolve())
    if "," in adapter:
        raise FileError(f"LLaMA-Factory would split {adapter} at the comma; choose an --out without one")
    written = request.adapter()
    keys = {
        "model_name_or_path": request.base,
        "finetuning_type": "lora",
        "adapter_name_or_path": adapter,
        "create_new_adapter": False,
        **recipe_keys(request),
    }
    comment = (
        f"LayerLens plan {request.plan.digest[:16]} for LLaMA-Factory: add these keys to your configuration.\n"
        "Ranks, modules and α are the adapter's; lora_rank, lora_alpha, lora_dropout and lora_target have no effect."
    )
    path = write_keys(request.out / FILE_NAME, keys, comment)
    request.say(f"add the keys of {path.name} to your configuration; training goes on from the adapter beside it")
    return (*written, path)
