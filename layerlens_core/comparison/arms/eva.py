"""EVA's ranks as PEFT itself redistributes them: the one rule that needs a model and data."""

import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from layerlens_core.comparison.arms.ground import Unfit
from layerlens_core.errors import first_line

if TYPE_CHECKING:
    from torch import nn

#: Forward passes after which PEFT's search for principal components is given up; it has no bound of its own.
MOST_PASSES = 500


def eva_ranks(
    model: "nn.Module",
    batches: Sequence[Mapping[str, Any]],
    modules: Collection[str],
    *,
    rank: int,
    rho: float = 2.0,
) -> dict[str, int]:
    """The rank of each module after PEFT's redistribution (`peft.tuners.lora.eva.get_eva_state_dict`).

    model: frozen; its mode is restored, and no hook stays on it.
    batches: what the model is called with; the passes go round until the components have converged.
    modules: names of the linear modules to rank.
    rank: of uniform LoRA, whose number of ranks in all is redistributed.
    rho: ranks of one module at most, as a multiple of ``rank``.

    Raises `Unfit` where a batch has fewer tokens than components are asked for, where the components do not converge
    in `MOST_PASSES`, and for what PEFT refuses.
    """
    import torch
    from peft import EvaConfig, LoraConfig
    from peft.tuners.lora import eva

    from layerlens_core.adaptation.target_patterns import exactly

    batches = [dict(batch) for batch in batches]
    masked = [batch["attention_mask"] for batch in batches if "attention_mask" in batch]
    fewest = min((int(mask.sum()) for mask in masked), default=None)
    if fewest is not None and fewest < rho * rank:  # PEFT would pass over such a batch, for ever
        raise Unfit(f"EVA asks for {rho * rank:g} components, and a batch has {fewest} tokens; give larger batches")
    passes = 0

    def forward(model: "nn.Module", inputs: Mapping[str, Any]) -> Any:
        nonlocal passes
        passes += 1
        if passes > MOST_PASSES:
            raise Unfit(f"EVA's components have not converged in {MOST_PASSES} passes")
        with torch.no_grad():
            return model(**inputs)

    config = LoraConfig(r=rank, target_modules=exactly(modules), init_lora_weights="eva", eva_config=EvaConfig(rho=rho))
    text = all("input_ids" in batch for batch in batches)
    own = {} if text else {"prepare_model_inputs_fn": None, "prepare_layer_inputs_fn": None}
    training = model.training
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = eva.get_eva_state_dict(
                model, batches, peft_config=config, forward_fn=forward, show_progress_bar=False, **own
            )
    except (ValueError, RuntimeError, IndexError) as error:
        raise Unfit(f"PEFT's EVA cannot rank these modules: {first_line(error)}") from error
    finally:
        _without_hooks(model, eva._Hook)
        model.train(training)
    return {name: int(components.shape[0]) for name, components in found.items()}


def _without_hooks(model: "nn.Module", kind: type) -> None:
    """Take away what PEFT leaves on a model where it gives up."""
    for module in model.modules():
        for key, hook in list(module._forward_hooks.items()):
            if isinstance(hook, kind):
                del module._forward_hooks[key]
