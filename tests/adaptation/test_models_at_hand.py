"""What is handed to us instead of a model as it was loaded is named, at every way in."""

import peft
import pytest
import torch

import layerlens_core as ll
import zoo
from layerlens_core.errors import ModelError
from zoo.plans import mixed_ranks, plan_of
from zoo.probing import add_adapter

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def _with_adapter():
    model = zoo.build("llama")
    add_adapter(model, peft.LoraConfig(target_modules=["q_proj"]))
    return model


def _wrapped(config):
    return peft.get_peft_model(zoo.build("llama"), config)


LORA = peft.LoraConfig(target_modules=["q_proj"])
HANDED = {
    "a PeftModel": (lambda: _wrapped(LORA), r"PeftModel already carries PEFT adapters.*model\.unload\(\), or"),
    "its inside": (lambda: _wrapped(LORA).get_base_model(), "already carries PEFT adapters.*PeftModel's unload"),
    "prompts": (
        lambda: _wrapped(peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)),
        "already carries PEFT adapters; take the base model, loaded anew",
    ),
    "an adapter of transformers": (_with_adapter, "already carries PEFT adapters.*loaded anew"),
    "a wrapper": (lambda: torch.nn.DataParallel(zoo.build("llama")), "as it was loaded is needed, not DataParallel"),
    "a name": (lambda: "some/model", "not 'some/model'; load it first"),
    "nothing": (lambda: None, "not a NoneType; load it first"),
}


@pytest.mark.parametrize("handed", HANDED)
def test_it_is_named(handed, tmp_path):
    make, message = HANDED[handed]
    plan = plan_of(zoo.build("llama"), mixed_ranks(zoo.build("llama")))
    for use in (
        lambda model: ll.profile(model, [zoo.find("llama").inputs()]),
        lambda model: ll.apply(model, plan),
        lambda model: ll.load(model, tmp_path),
        ll.inspect,
    ):
        with pytest.raises(ModelError, match=message):
            use(make())
