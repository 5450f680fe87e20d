"""TRL: keys for its command line, as far as that goes (trl 1.16, ``ModelConfig``).

SFTTrainer itself takes any model that ``apply`` made. Its command line has one rank for all modules and no pattern. But
it has ``lora_target_modules``, and a list of one entry becomes a string, which PEFT reads as a pattern that must match
the whole name; so any choice of modules can be expressed, as long as they have one rank.
"""

from pathlib import Path

from layerlens_core.plugin import ExportRequest, PlanError, recipe_keys, require_causal, require_lora, write_keys

FILE_NAME = "trl.yaml"
EXAMPLE = "docs/examples/sft.py"


def export(request: ExportRequest) -> tuple[Path, ...]:
    """Write ``trl.yaml``.

    Raises `PlanError` where the plan has several ranks, other methods or another task, or the model has experts.
    """
    require_lora(request.plan, "TRL")
    require_causal(request.plan, "TRL's command line")
    if request.init != "random":
        raise PlanError(f"TRL's command line draws LoRA's start itself, so --init {request.init} needs --to peft")
    if request.profile.inventory.experts:
        raise PlanError(
            "PEFT rewrites the patterns of some mixtures of experts, and TRL's command line cannot name modules "
            "otherwise; export it --to peft"
        )
    ranks = set(request.plan.sizes("lora").values())
    if len(ranks) > 1:
        raise PlanError(
            f"TRL's command line gives every module the one rank lora_r and has no rank pattern, but this plan has "
            f"ranks {min(ranks)} to {max(ranks)}; export it --to peft, and train with SFTTrainer as {EXAMPLE} does"
        )
    from layerlens_core.plugin import lora_config

    config = lora_config(request.plan)
    keys = {
        "model_name_or_path": request.base,
        "use_peft": True,
        "lora_task_type": "CAUSAL_LM",
        "lora_r": config.r,
        "lora_alpha": config.lora_alpha,
        "lora_dropout": config.lora_dropout,
        "lora_target_modules": [config.target_modules],
        **recipe_keys(request),
    }
    comment = (
        f"LayerLens plan {request.plan.digest[:16]} for the command line of TRL, which draws the initial weights "
        f"itself.\n"
        f"Train with: trl sft --config {FILE_NAME} --dataset_name … --output_dir …"
    )
    path = write_keys(request.out / FILE_NAME, keys, comment)
    request.say(f"train with: trl sft --config {path} --dataset_name … --output_dir …")
    return (path,)
