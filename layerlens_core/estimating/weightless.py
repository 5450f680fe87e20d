"""A model built from its configuration, without weights: every tensor knows its shape and holds nothing."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from transformers import PreTrainedModel
from transformers.configuration_utils import PreTrainedConfig

from layerlens_core.data.model import AUTO_CLASSES, drop_odd_padding, is_masked, quiet, read_config, refuse_code
from layerlens_core.errors import ModelError, first_line
from layerlens_core.profiling.samples.tasks import task_of_class
from layerlens_core.values.costs import DTYPE_BYTES
from layerlens_core.values.profile import Task


@frozen(kw_only=True)
class Weightless:
    """A model without weights.

    model: on the meta device.
    task: that its head is for.
    dtype: of its weights and activations.
    """

    model: PreTrainedModel
    task: Task
    dtype: str


def build(
    source: str | Path | PreTrainedConfig,
    *,
    task: Task | None = None,
    dtype: str | None = None,
    trust_remote_code: bool = False,
) -> Weightless:
    """The model that a configuration describes, in full depth; no weight is allocated.

    source: a local directory with a ``config.json``, a hub id, or a configuration, which is not changed.
    task: which head it gets; by default that of the configuration's class, or what its family is for.
    dtype: of its weights; by default the configuration's, or else float32.
    trust_remote_code: whether to run Python files that come with the model.

    Raises `ModelError` where there is no configuration, where it needs such files, and where transformers cannot build
    a model of it without weights or for the task.
    """
    if isinstance(source, PreTrainedConfig):
        config: Any = deepcopy(source)
        name = f"{config.model_type}'s configuration"
    else:
        config, name = read_config(str(source), trust_remote_code=trust_remote_code), str(source)
    task = task or _task_of(config)
    if task not in AUTO_CLASSES:
        raise ModelError(f"{name} is for {task}; what a model of images or sounds takes, profiling measures alone")
    if not hasattr(config, "auto_map") and type(config) not in AUTO_CLASSES[task]._model_mapping:
        raise ModelError(
            f"transformers has no model of {config.model_type} for {task}, so {name} tells nothing of its training; "
            "give another task, or load the model and profile it"
        )
    named = dtype or _dtype_of(config)
    if named not in DTYPE_BYTES:
        raise ModelError(f"{name} is of the dtype {named}; give one of {', '.join(DTYPE_BYTES)} as dtype")
    drop_odd_padding(config)
    text = config.get_text_config()
    if getattr(text, "pad_token_id", None) is None:
        text.pad_token_id = 0  # classifiers look for one; which, makes no difference here
    with quiet():
        try:
            with torch.device("meta"):
                model = AUTO_CLASSES[task].from_config(
                    config, dtype=getattr(torch, named), trust_remote_code=trust_remote_code
                )
        except Exception as error:  # whatever a model's class raises
            refuse_code(name, error)
            raise ModelError(
                f"{name} cannot be built for {task} from its configuration alone: {first_line(error)}; load the model "
                "and profile it instead"
            ) from error
    return Weightless(model=model, task=task, dtype=named)


def fake(model: PreTrainedModel) -> FakeTensorMode:
    """Put tensors that act as if they lay on a CPU in place of those on the meta device.

    So the forward pass takes the kernels that profiling takes, such as attention that keeps no weights, where on the
    meta device PyTorch writes each of them out. Returns the mode that makes more of their kind.

    model: on the meta device; it is changed.
    """
    mode = _Shapes(allow_non_fake_inputs=True)
    made: dict[int, Tensor] = {}

    def of(tensor: Tensor) -> Tensor:
        if id(tensor) not in made:  # tied weights stay tied
            # The mode's own way to wrap a tensor that has no values already.
            wrapped: Tensor = FakeTensor(mode, tensor.detach(), torch.device("cpu"))
            made[id(tensor)] = nn.Parameter(wrapped, requires_grad=False) if _trains(tensor) else wrapped
        return made[id(tensor)]

    for module in model.modules():
        for tensors in (module._parameters, module._buffers, vars(module)):
            for name, tensor in tensors.items():
                if isinstance(tensor, Tensor) and tensor.is_meta:
                    tensors[name] = of(tensor)
    return mode


class _Shapes(FakeTensorMode):  # type: ignore[no-untyped-call]
    """PyTorch's own, which knows products of groups (mixtures of experts) in bfloat16 alone."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._grouped_mm.default and (args[0].dim(), args[1].dim()) == (2, 3):
            return args[0].new_empty(args[0].shape[0], args[1].shape[2])  # [rows, in] × [experts, in, out]
        return super().__torch_dispatch__(func, types, args, kwargs)


def _trains(tensor: Tensor) -> bool:
    return isinstance(tensor, nn.Parameter)


def _task_of(config: Any) -> Task:
    """The task of the class that a configuration names, or of its family."""
    for name in config.architectures or ():
        found = task_of_class(name)
        if found is not None:
            return found
    if config.is_encoder_decoder:
        return "seq2seq-lm"
    return "masked-lm" if is_masked(config) else "causal-lm"


def _dtype_of(config: Any) -> str:
    found = getattr(config, "dtype", None) or getattr(config.get_text_config(), "dtype", None)
    return "float32" if found is None else str(found).removeprefix("torch.")
