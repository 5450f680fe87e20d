"""What a plan is said to cost, beside PyTorch's own count of the FLOPs of a training step and of what it keeps."""

import json

import pytest
import torch
import transformers
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from layerlens_builtin.methods import lora, none
from layerlens_core.adaptation.attach import attach_lora
from layerlens_core.allocation.build import Findings, Terms, build_unit
from layerlens_core.allocation.flops import depth_costs
from layerlens_core.inspection.inspect import inspect
from layerlens_core.profiling.costs.activations import measure_activations
from layerlens_core.profiling.profile import profile
from layerlens_core.values.candidates import CandidateSet
from layerlens_core.values.costs import Activations, Training
from layerlens_core.values.profile import Profile

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning",
    "ignore:fan_in_fan_out is set to False:UserWarning",
)

BATCH, LENGTH, VOCABULARY = 2, 64, 500
_TOKENS = {"vocab_size": VOCABULARY, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3}
_SIZES = {
    "hidden_size": 128,
    "intermediate_size": 320,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    **_TOKENS,
}
_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
#: Model class and configuration, large enough that layers outweigh what is not counted.
FAMILIES = {
    "llama": ("Llama", "ForCausalLM", {**_SIZES, "num_key_value_heads": 2}),
    "qwen3": ("Qwen3", "ForCausalLM", {**_SIZES, "num_key_value_heads": 2, "head_dim": 64}),
    "bert": ("Bert", "ForMaskedLM", {**_SIZES, **_NO_DROPOUT}),
    "gpt2": (
        "GPT2",
        "LMHeadModel",
        {
            "n_embd": 128,
            "n_layer": 8,
            "n_head": 4,
            "n_positions": 128,
            **_TOKENS,
            "attn_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "resid_pdrop": 0.0,
        },
    ),
    "opt-projected": (
        "OPT",
        "ForCausalLM",
        {**_SIZES, "ffn_dim": 320, "word_embed_proj_dim": 64},
    ),
    "gpt-neox": ("GPTNeoX", "ForCausalLM", _SIZES),
    "t5": (
        "T5",
        "ForConditionalGeneration",
        {
            "d_model": 128,
            "d_ff": 320,
            "d_kv": 32,
            "num_layers": 4,
            "num_heads": 4,
            "decoder_start_token_id": 1,
            **_TOKENS,
        },
    ),
    "qwen3-moe": (
        "Qwen3Moe",
        "ForCausalLM",
        {
            **_SIZES,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "moe_intermediate_size": 96,
            "num_experts": 8,
            "num_experts_per_tok": 2,
        },
    ),
}


def build(name, attention="eager", dtype=torch.float32):
    prefix, suffix, options = FAMILIES[name]
    config = getattr(transformers, f"{prefix}Config")(**options, attn_implementation=attention)
    config.use_cache = False
    config._experts_implementation = "eager"  # grouped products are not among those that PyTorch counts
    return getattr(transformers, f"{prefix}{suffix}")(config).to(dtype).train()


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
    tokens = torch.randint(4, VOCABULARY, (BATCH, LENGTH), generator=torch.Generator().manual_seed(0))
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
    [(name, depth) for name in FAMILIES if name != "qwen3-moe" for depth in ("all", "top", "middle")
     if (name, depth) != ("t5", "middle")] + [("qwen3-moe", "all")],
)  # fmt: skip
def test_flops_are_those_that_pytorch_counts(name, depth):
    model = build(name)
    inventory = inspect(model)
    ranks = mixed(chosen(inventory.layers, depth))
    cost = predicted(inventory, ranks, Training(batch=BATCH, length=LENGTH))
    assert cost.flops == pytest.approx(counted_flops(model, ranks), rel=0.01)


def samples(count=3, length=LENGTH):
    generator = torch.Generator().manual_seed(1)
    tokens = [torch.randint(4, VOCABULARY, (length,), generator=generator) for _ in range(count)]
    return [{"input_ids": t, "attention_mask": torch.ones_like(t), "labels": t} for t in tokens]


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
    gradients = 2 * 4 * VOCABULARY
    kept = (cost.memory - fixed) / training.tokens - gradients
    assert kept == pytest.approx(really_kept(model, ranks, data), rel=0.05)


def test_activations_are_the_same_every_time_and_survive_a_file(tmp_path):
    model = build("bert")
    data = samples(4, length=16)
    first, second = (profile(model, data, metrics=("fisher",)) for _ in range(2))
    assert first.activations == second.activations
    assert isinstance(first.activations, Activations)
    assert all(type(x) is float and x > 0 for x in first.activations.through.values())
    assert first.activations.through.keys() == {layer.name for layer in first.inventory.layers}
    first.save(tmp_path)
    assert json.loads((tmp_path / "profile.json").read_text())
    assert Profile.load(tmp_path).activations == first.activations


def test_a_classifier_keeps_as_much_a_layer_and_little_after_it():
    prefix, _, options = FAMILIES["bert"]
    config = getattr(transformers, f"{prefix}Config")(**options, num_labels=3)
    model = transformers.BertForSequenceClassification(config)
    data = [{**sample, "labels": torch.tensor(1)} for sample in samples()]
    classifier = measure_activations(model, inspect(model), data, "sequence-classification")
    body = build("bert", "sdpa")
    language_model = measure_activations(body, inspect(body), samples(), "masked-lm")
    assert list(classifier.through.values()) == pytest.approx(list(language_model.through.values()), rel=0.02)
    assert model.config.problem_type is None
    assert classifier.head < language_model.head


def test_checkpointing_keeps_the_layers_inputs_alone():
    model = build("llama", "sdpa")
    full = measure_activations(model, inspect(model), samples(), "causal-lm")
    model.activation_checkpointing_enable()
    checkpointed = measure_activations(model, inspect(model), samples(), "causal-lm")
    assert set(checkpointed.through.values()) == {128 * 4.0}
    assert set(checkpointed.adapted.values()) == {0.0}
    largest = max(full.through[name] + full.adapted[name] for name in full.through)
    assert checkpointed.head >= max(full.head, largest)


def test_a_parallel_layer_and_its_experts_are_known():
    assert inspect(build("gpt-neox")).parallel
    assert not inspect(build("llama")).parallel
    experts = inspect(build("qwen3-moe")).experts
    assert [(e.layer, e.count, e.active, e.parameters) for e in experts] == [
        (f"model.layers.{at}", 8, 2, 8 * 3 * 128 * 96) for at in range(8)
    ]


def test_measuring_activations_frees_what_it_kept():
    import gc
    import weakref

    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, vocab_size=64
        )
    )
    seen = []
    hook = model.model.layers[0].register_forward_hook(
        lambda _module, _args, output: seen.append(weakref.ref(output if torch.is_tensor(output) else output[0]))
    )
    row = torch.arange(3, 19)
    measure_activations(
        model, inspect(model), [{"input_ids": row, "attention_mask": torch.ones_like(row)}], "causal-lm"
    )
    hook.remove()
    gc.collect()
    assert seen
    assert all(reference() is None for reference in seen), "a layer's output is still alive"
