"""axolotl: the initialised adapter, and keys that say the same (axolotl 0.19, ``utils/schemas/peft.py``).

With ``lora_model_dir`` axolotl trains the adapter that is there, and warns unless the patterns in its configuration
equal the adapter's. For DPO, IPO and KTO it builds LoRA from the keys instead. So both must be right, and the keys are
read from the adapter. A list of target modules is matched by the ends of names; a string is a pattern that must match
the whole name.
"""

import json
from pathlib import Path
from typing import Any

from layerlens_core.plugin import ExportRequest, recipe_keys, require_causal, require_lora, write_keys

FILE_NAME = "axolotl.yaml"


def export(request: ExportRequest) -> tuple[Path, ...]:
    """Write the adapter and ``axolotl.yaml``. Raises `PlanError` where the plan has other methods or another task."""
    require_lora(request.plan, "axolotl")
    require_causal(request.plan, "axolotl")
    written = request.adapter()
    config = json.loads((request.out / "adapter_config.json").read_text(encoding="utf-8"))
    keys: dict[str, Any] = {
        "base_model": request.base,
        "adapter": "lora",
        "lora_model_dir": str(request.out.resolve()),
        "lora_r": config["r"],
        "lora_alpha": config["lora_alpha"],
        "lora_dropout": config["lora_dropout"],
        "lora_target_modules": config["target_modules"],
    }
    further = ("target_parameters", "rank_pattern", "alpha_pattern")
    keys |= {f"lora_{name}": config[name] for name in further if config[name]}
    keys |= recipe_keys(
        request,
        lr_scheduler_type="lr_scheduler",
        num_train_epochs="num_epochs",
        per_device_train_batch_size="micro_batch_size",
    )
    comment = (
        f"LayerLens plan {request.plan.digest[:16]} for axolotl: add these keys to your configuration.\n"
        "Leave lora_target_linear out: it would add all other linear modules where the adapter is made from the keys."
    )
    path = write_keys(request.out / FILE_NAME, keys, comment)
    request.say(
        f"add the keys of {path.name} to your axolotl configuration; training goes on from the adapter beside it"
    )
    return (*written, path)
