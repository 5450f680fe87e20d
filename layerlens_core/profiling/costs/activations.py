"""What the forward pass keeps for the backward pass, counted on the model itself in one forward pass.

Autograd tells what it keeps: every saved tensor passes through `torch.autograd.graph.saved_tensors_hooks`. Weights are
frozen during the count, so that what is seen is what a layer keeps where gradients only pass through it. What LoRA
keeps in addition, the inputs of the modules that it adapts, is read off those modules.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from attrs import field, frozen
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.graph import saved_tensors_hooks
from transformers import PreTrainedModel

from layerlens_core.errors import ModelError
from layerlens_core.inspection.accessors import input_embeddings
from layerlens_core.inspection.packed import is_wrapper, packed_state
from layerlens_core.profiling.costs.places import Places, tied
from layerlens_core.profiling.model.decoder_inputs import decoder_inputs
from layerlens_core.profiling.model.devices import input_device, on
from layerlens_core.profiling.model.forward import run
from layerlens_core.profiling.model.frozen import untouched
from layerlens_core.profiling.model.losses import inputs_alone, per_sample_losses
from layerlens_core.profiling.model.weights import is_sharded
from layerlens_core.profiling.samples.sample import IGNORED, Sample, collate, runs
from layerlens_core.profiling.samples.tasks import CLASSIFICATION, count_labels, pad_token_id
from layerlens_core.values.costs import Activations
from layerlens_core.values.inventory import Inventory
from layerlens_core.values.profile import Task

#: Samples in the forward pass. What a batch shares (masks, rotary angles) is small beside what each token keeps.
SAMPLES = 4
#: Bytes of a value that LoRA keeps: PEFT holds its weights in float32, and for each module a float32 copy of its input.
_LORA_BYTES = 4

_Key = tuple[torch.device, int]
_BEFORE = -1


def measure_activations(
    model: PreTrainedModel,
    inventory: Inventory,
    samples: Sequence[Sample],
    task: Task,
    *,
    batch: int = SAMPLES,
    places: Places | None = None,
) -> Activations:
    """Bytes a token that training keeps, on the model's device, in its dtype and with its attention.

    A storage counts once, for the last layer that keeps it: it is kept as long as that layer lies above the lowest
    trained one. Weights and buffers do not count. Dropout is off, so its masks (a byte a value) are missing.

    ``head`` is what the model keeps after the last layer, and the peak when the backward pass begins: the gradients
    that go into and out of the widest operation, each as large as the largest tensor kept there, or as the logits. For
    a language model in bfloat16 that is float32 log-probabilities and two gradients of their size, 12 bytes a token and
    entry of the vocabulary. That memory is free again when the backward pass reaches the layers, where two gradients as
    large as a layer's largest tensor take its place if they are larger.

    Where gradient checkpointing is on, ``through`` is the layers' inputs, ``adapted`` is nothing, and ``head`` is at
    least what the largest layer keeps while it is computed again.

    Where attention keeps its weights (``eager``), bytes a token grow with the length, and hold for the length of these
    samples. The model is as before afterwards, also after an exception.

    model: to run.
    inventory: of the model.
    samples: the first ``batch`` with labels that can share one, padded to one length, are run; padding counts as
        tokens, as it does in training.
    task: which loss is computed.
    batch: samples to run.
    places: notes what the pass does with them.
    """
    counted = [sample for sample in samples if count_labels(sample, task) > 0]
    _, together = next(runs(counted, batch))
    inputs = on(input_device(model), collate(together, pad_token_id(model, task, len(together))))
    kept = kept_activations(model, inventory, inputs, task, places=places)
    checkpointed = any(getattr(module, "gradient_checkpointing", False) is True for module in model.modules())
    return kept.checkpointed if checkpointed else kept.plain


@frozen(kw_only=True)
class Kept:
    """What one forward pass keeps, without gradient checkpointing and with it; see `measure_activations`.

    plain: without.
    checkpointed: with.
    kinds: without, ``through`` of each layer by kind of module.
    """

    plain: Activations
    checkpointed: Activations
    kinds: Mapping[str, Mapping[str, float]]


def kept_activations(
    model: PreTrainedModel,
    inventory: Inventory,
    inputs: Sample,
    task: Task,
    *,
    places: Places | None = None,
    kinds: Mapping[str, str] | None = None,
) -> Kept:
    """As `measure_activations`, on one batch, which may be without values where the weights are.

    model: to run.
    inventory: of the model.
    inputs: of the model, with labels.
    task: which loss is computed.
    places: notes what the pass does with them.
    kinds: by module, what is kept while it runs is of; of modules in one another the innermost counts.
    """
    places = places or Places.of(inventory)
    modules = dict(model.named_modules())
    at_hand = model.buffers() if is_sharded(model) else (*model.parameters(), *model.buffers())
    packed = (tensor for module in modules.values() for tensor in packed_state(module).values())
    watch = _Watch(weights={_key(tensor) for tensor in (*at_hand, *packed) if not is_wrapper(tensor)})
    embeddings = input_embeddings(model)
    handles = [] if embeddings is None else [embeddings.register_forward_hook(_require_gradient)]
    with untouched(model), places.watched(model):
        try:
            if is_sharded(model):
                for module in modules.values():
                    handles.append(module.register_forward_pre_hook(watch.gathered))
                    handles.append(module.register_forward_hook(watch.scattered))
            for at, layer in enumerate(inventory.layers):
                handles.append(modules[layer.name].register_forward_pre_hook(_tied_input, with_kwargs=True))
                handles.append(modules[layer.name].register_forward_pre_hook(watch.entering(at), with_kwargs=True))
                handles.append(modules[layer.name].register_forward_hook(watch.leaving(len(inventory.layers))))
                for module in layer.modules:
                    hook = watch.reading(at)
                    handles.append(modules[module.name].register_forward_pre_hook(hook, with_kwargs=True))
            for name, kind in (kinds or {}).items():
                handles.append(modules[name].register_forward_pre_hook(watch.beginning(kind)))
                handles.append(modules[name].register_forward_hook(watch.ending))
            with torch.enable_grad(), saved_tensors_hooks(watch.keep, lambda tensor: tensor):
                logits, loss = _forward(model, inputs, task, watch)
                places.trace(loss)
        finally:
            for handle in handles:
                handle.remove()
    return Kept(
        plain=_summary(inventory, watch, logits, checkpointed=False),
        checkpointed=_summary(inventory, watch, logits, checkpointed=True),
        kinds=_by_kind(inventory, watch),
    )


@frozen(kw_only=True)
class _Storage:
    """Memory that is kept.

    place: the last that keeps it: a layer, or the number of layers for what comes after them.
    size: in bytes.
    kind: of the module that ran.
    """

    place: int
    size: int
    kind: str = ""


@frozen(kw_only=True)
class _Watch:
    """What is kept, and where. The tensors stay alive, so that no address is used twice.

    kept: by storage.
    inputs: of linear modules, which LoRA would keep.
    rows: tokens that went into a layer.
    entered: bytes of the layers' own inputs.
    running: kinds of the modules that run, the innermost last.
    """

    weights: set[_Key]
    place: list[int] = field(factory=lambda: [_BEFORE])
    kept: dict[_Key, _Storage] = field(factory=dict)
    inputs: dict[_Key | int, _Storage] = field(factory=dict)
    rows: dict[int, int] = field(factory=dict)
    entered: dict[int, int] = field(factory=dict)
    alive: list[Tensor] = field(factory=list)
    running: list[str] = field(factory=list)

    def begin_anew(self) -> None:
        """Forget a forward pass that failed."""
        self.place[-1] = _BEFORE
        for seen in (self.kept, self.inputs, self.rows, self.entered, self.alive, self.running):
            seen.clear()

    def keep(self, tensor: Tensor) -> Tensor:
        """Autograd saves a tensor."""
        if is_wrapper(tensor):  # a packed weight
            return tensor.detach()
        if self.place[-1] != _BEFORE and (key := _key(tensor)) not in self.weights and not _is_weight(tensor):
            kind = self.running[-1] if self.running else ""
            self.kept[key] = _Storage(place=self.place[-1], size=tensor.untyped_storage().nbytes(), kind=kind)
            self.alive.append(tensor.detach())
        # An output that its own node keeps, graph and all, would be a cycle that nothing ever frees.
        return tensor.detach()

    def gathered(self, module: nn.Module, _args: tuple[Any, ...]) -> None:
        """Sharded weights get other addresses while their module runs: note these."""
        self.weights.update(_key(parameter) for parameter in module.parameters(recurse=False))

    def scattered(self, module: nn.Module, _args: tuple[Any, ...], _output: object) -> None:
        """Forget these addresses: what lies there next is no weight."""
        self.weights.difference_update(_key(parameter) for parameter in module.parameters(recurse=False))

    def entering(self, place: int) -> Any:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.place[-1] = place
            tensor = next((v for v in (*args, *kwargs.values()) if _is_hidden(v)), None)
            if tensor is not None:
                self.rows[place] = tensor.numel() // tensor.shape[-1]
                self.entered[place] = self.entered.get(place, 0) + tensor.numel() * tensor.element_size()

        return hook

    def leaving(self, after: int) -> Any:
        def hook(_module: nn.Module, _args: tuple[Any, ...], _output: object) -> None:
            self.place[-1] = after

        return hook

    def beginning(self, kind: str) -> Any:
        def hook(_module: nn.Module, _args: tuple[Any, ...]) -> None:
            self.running.append(kind)

        return hook

    def ending(self, _module: nn.Module, _args: tuple[Any, ...], _output: object) -> None:
        self.running.pop()

    def reading(self, place: int) -> Any:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            tensor = next((v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)), None)
            if tensor is None:
                return
            if tensor.element_size() < _LORA_BYTES:
                self.inputs[len(self.inputs)] = _Storage(place=place, size=tensor.numel() * _LORA_BYTES)
            else:
                self.inputs[_key(tensor)] = _Storage(place=place, size=tensor.untyped_storage().nbytes())
                self.alive.append(tensor.detach())

        return hook


def _forward(model: PreTrainedModel, inputs: Sample, task: Task, watch: _Watch) -> tuple[int, Tensor]:
    """Compute the loss as transformers does in training. Returns the bytes of the logits, and the loss."""
    if task in CLASSIFICATION:
        # With labels a classifier would write the kind of its problem into its configuration. Its logits are few.
        return 0, per_sample_losses(model, inputs, task).sum()
    options: dict[str, Any] = dict(inputs)
    if task == "causal-lm" and "labels" not in options:
        options["labels"] = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, IGNORED)
    if task == "seq2seq-lm" and "decoder_input_ids" not in options:
        options["decoder_input_ids"] = decoder_inputs(model, inputs_alone(inputs), inputs["labels"])
    try:
        output = run(model, options, cache=task in ("masked-lm", "token-classification"))
    except ModelError:
        # GIT drops the places of images from its logits before its loss, also where there are none: ours must do.
        watch.begin_anew()
        return 0, per_sample_losses(model, inputs, task).sum()
    logits: Tensor = output.logits
    loss = output.loss if output.loss is not None else logits
    return logits.numel() * logits.element_size(), loss


def _summary(inventory: Inventory, watch: _Watch, logits: int, *, checkpointed: bool) -> Activations:
    layers = len(inventory.layers)
    through, adapted, largest = ([0.0] * (layers + 1) for _ in range(3))
    for storage in watch.kept.values():
        through[storage.place] += storage.size
        largest[storage.place] = max(largest[storage.place], storage.size)
    for key, storage in watch.inputs.items():
        if key not in watch.kept and key not in watch.weights:
            adapted[storage.place] += storage.size
            largest[storage.place] = max(largest[storage.place], storage.size)
    default = max(watch.rows.values(), default=1)
    rows = [watch.rows.get(at, default) for at in range(layers)]
    after = (through[layers] + 2 * max(largest[layers], logits)) / rows[-1]
    names = [layer.name for layer in inventory.layers]
    if checkpointed:
        again = max((through[at] + adapted[at] + 2 * largest[at]) / rows[at] for at in range(layers))
        return Activations(
            through={name: watch.entered.get(at, 0) / rows[at] for at, name in enumerate(names)},
            adapted=dict.fromkeys(names, 0.0),
            head=max(after, again),
        )
    working = max(2 * largest[at] / rows[at] for at in range(layers))
    return Activations(
        through={name: through[at] / rows[at] for at, name in enumerate(names)},
        adapted={name: adapted[at] / rows[at] for at, name in enumerate(names)},
        head=max(after, working),
    )


def _by_kind(inventory: Inventory, watch: _Watch) -> dict[str, dict[str, float]]:
    """By layer and kind, bytes a token that are kept."""
    found: dict[str, dict[str, float]] = {layer.name: {} for layer in inventory.layers}
    default = max(watch.rows.values(), default=1)
    for storage in watch.kept.values():
        if storage.place < len(inventory.layers):
            of_layer = found[inventory.layers[storage.place].name]
            size = storage.size / watch.rows.get(storage.place, default)
            of_layer[storage.kind] = of_layer.get(storage.kind, 0.0) + size
    return found


def _key(tensor: Tensor) -> _Key:
    storage = tensor.untyped_storage()
    # What has no values has no address, but the storage that would hold them is there.
    return tensor.device, storage._cdata if isinstance(tensor, FakeTensor) else storage.data_ptr()


def _is_weight(tensor: Tensor) -> bool:
    """Offloaded weights are made anew whenever their module runs, so their addresses do not tell."""
    return isinstance(tensor, nn.Parameter) or isinstance(tensor._base, nn.Parameter)


def _is_hidden(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.dim() >= 2


def _tied_input(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The same for a layer whose input comes from no embeddings of tokens, such as an image's."""
    hidden = next((v for v in (*args, *kwargs.values()) if _is_hidden(v)), None)
    if hidden is None or hidden.requires_grad or not torch.is_grad_enabled():
        return None
    made = tied(hidden)
    return (
        tuple(made if value is hidden else value for value in args),
        {key: made if value is hidden else value for key, value in kwargs.items()},
    )


def _require_gradient(_module: nn.Module, _args: tuple[Any, ...], output: object) -> Tensor | None:
    """Act as if something below were trained, so that gradients pass through all layers."""
    if torch.is_grad_enabled() and isinstance(output, Tensor) and output.is_floating_point() and output.is_leaf:
        return output.requires_grad_(True).clone()  # a leaf must not be written to in place, which some models do
    return None
