"""What a plan is said to cost, beside PyTorch's own count of the FLOPs of a training step and of what it keeps."""

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from layerlens_builtin.methods import lora, none
from layerlens_core.adaptation.attach import attach_lora
from layerlens_core.allocation.build import Findings, Terms, build_unit
from layerlens_core.allocation.flops import depth_costs
from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.costs.activations import measure_activations
from layerlens_core.values.candidates import CandidateSet
from layerlens_core.values.costs import Training
from zoo.wide import LENGTH, WIDE_VOCABULARY, build, samples

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning",
    "ignore:fan_in_fan_out is set to False:UserWarning",
)

BATCH = 2

NAMES = ("llama", "qwen3", "bert", "gpt2", "opt", "gpt-neox", "t5", "qwen3_moe")


def chosen(layers, depth):
    half = len(layers) // 2
    return {"all": layers, "top": layers[half:], "middle": layers[half - 1 : half], "last two": layers[-2:]}[depth]


def mixed(layers):
    """Ranks 1 to 16 by no pattern."""
    ranks = [8, 3, 16, 4, 1, 12, 5]
    return {m.name: ranks[(at + n) % 7] for at, layer in enumerate(layers) for n, m in enumerate(layer.modules)}


def predicted(inventory, ranks, training, activations=None):
    """The cost of LoRA at these ranks, through candidates and decisions as a plan has it."""
    kept = activations.adapted if activations else {}
    units = tuple(
        build_unit(
            layer,
            1.0,
            {"none": none.METHOD, "lora": lora.METHOD},
            Terms(training=training),
            Findings(kept_inputs=kept.get(layer.name, 0.0), depth=depth),
        )
        for depth, layer in enumerate(inventory.layers)
    )
    decisions = []
    for layer, unit in zip(inventory.layers, units, strict=True):
        sizes = {m.name: ranks[m.name] for m in layer.modules if m.name in ranks}
        choice = ("lora", max(sizes.values())) if sizes else ("none", 0)
        decisions.append(unit.decide(*choice, sizes=sizes, reason="by hand"))
    depths = depth_costs(inventory, training, activations)
    return CandidateSet(units=units, methods=("none", "lora"), depths=depths).total(decisions)


def counted_flops(model, ranks):
    """Of one forward and backward pass of LoRA on a frozen model, a token."""
    wrapped = attach_lora(model, ranks, scale=2)
    tokens = torch.randint(4, WIDE_VOCABULARY, (BATCH, LENGTH), generator=torch.Generator().manual_seed(0))
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = tokens
    with FlopCounterMode(display=False) as counter:
        logits = wrapped(**inputs).logits
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="sum").backward()
    return counter.get_total_flops() / tokens.numel()


# PEFT 0.21 adapts all layers of a mixture of experts, whatever names it is given, so only "all" can be built.
# A lone encoder layer below a frozen decoder is dearer by prediction: the decoder's first self-attention is counted.
@pytest.mark.parametrize(
    ("name", "depth"),
    [(name, depth) for name in NAMES if name != "qwen3_moe" for depth in ("all", "top", "middle")
     if (name, depth) != ("t5", "middle")] + [("qwen3_moe", "all")],
)  # fmt: skip
def test_flops_are_those_that_pytorch_counts(name, depth):
    model = build(name)
    inventory = inspect(model)
    ranks = mixed(chosen(inventory.layers, depth))
    cost = predicted(inventory, ranks, Training(batch=BATCH, length=LENGTH))
    assert cost.flops == pytest.approx(counted_flops(model, ranks), rel=0.01)


def really_kept(model, ranks, data):
    """Bytes a token that autograd saves in a training step of PEFT, weights left out."""
    wrapped = attach_lora(model, ranks, scale=2).train()
    weights = {t.untyped_storage().data_ptr() for t in (*wrapped.parameters(), *wrapped.buffers())}
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    batch = {key: torch.stack([sample[key] for sample in data]) for key in data[0]}
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = wrapped(**batch).loss
    bytes_ = sum(t.untyped_storage().nbytes() for address, t in kept.items() if address not in weights)
    loss.backward()
    return bytes_ / batch["input_ids"].numel()


@pytest.mark.parametrize("depth", ["all", "top", "last two"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("name", "attention"), [("llama", "sdpa"), ("llama", "eager"), ("gpt2", "sdpa")])
def test_memory_is_what_a_real_step_keeps(name, attention, dtype, depth):
    model = build(name, attention, getattr(torch, dtype))
    inventory, data = inspect(model), samples()
    activations = measure_activations(model, inventory, data, "causal-lm")
    ranks = dict.fromkeys((m.name for layer in chosen(inventory.layers, depth) for m in layer.modules), 8)
    training = Training(batch=len(data), length=LENGTH, dtype=dtype)
    cost = predicted(inventory, ranks, training, activations)
    fixed = inventory.parameters * training.activation_bytes + cost.params * 16
    # As backward begins there are two gradients of the size of the float32 log-probabilities.
    gradients = 2 * 4 * WIDE_VOCABULARY
    kept = (cost.memory - fixed) / training.tokens - gradients
    assert kept == pytest.approx(really_kept(model, ranks, data), rel=0.05)
