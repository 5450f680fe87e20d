"""Attach the recorders to their modules: by hooks, or in layers that are compiled."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from transformers import PreTrainedModel

from layerlens_core.errors import ModelError
from layerlens_core.profiling.hooks.tap import Ear, tap
from layerlens_core.profiling.model.weights import is_sharded


@contextmanager
def attached(
    model: PreTrainedModel, ears: Mapping[str, Ear], *, columns: int = 0, layers: Collection[str] = ()
) -> Iterator[None]:
    """Let ears hear their modules inside. The model is as before afterwards, also after an exception.

    model: that holds the modules.
    ears: by module name.
    columns: of what the ears keep of inputs, 0 where they keep the inputs.
    layers: names of those to compile; a layer with a module that cannot be heard when it is compiled, such as a
        quantised one, is not.

    Raises `ModelError` where none of the layers can be compiled.
    """
    compilable = _compilable(model, ears, layers) if layers else {}
    within = {name for heard in compilable.values() for name in heard}
    with ExitStack() as stack:
        for name, ear in ears.items():
            if name not in within:
                stack.callback(tap(model.get_submodule(name), ear).remove)
        if compilable:
            from layerlens_core.profiling.hooks.compiled import compiled  # the compiler takes long to import

            heard = {model.get_submodule(name): ears[name] for name in within}
            stack.enter_context(compiled([model.get_submodule(layer) for layer in compilable], heard, columns))
        yield


def _compilable(model: PreTrainedModel, ears: Mapping[str, Ear], layers: Collection[str]) -> dict[str, list[str]]:
    """By layer that can be compiled, its modules with an ear. Raises `ModelError`."""
    from layerlens_core.profiling.hooks.compiled import can_be_heard

    if is_sharded(model) or hasattr(model, "hf_device_map"):
        raise ModelError("a model that is spread over devices cannot be compiled; leave --compile out")
    within: dict[str, list[str]] = {layer: [] for layer in layers}
    for name in ears:
        layer = next((name[:at] for at in _dots(name) if name[:at] in within), None)
        if layer is not None:
            within[layer].append(name)
    modules = {name: model.get_submodule(name) for name in ears}
    alone = {name: can_be_heard(module) for name, module in modules.items()}
    places = Counter(modules[name].weight.data_ptr() for name, heard in alone.items() if heard)
    deaf = {
        name: type(module).__name__
        for name, module in modules.items()
        if not alone[name] or places[module.weight.data_ptr()] > 1
    }
    compilable = {layer: names for layer, names in within.items() if not deaf.keys() & set(names)}
    if not compilable:
        raise ModelError(
            f"no layer can be compiled: {next(iter(deaf))} and others ({', '.join(sorted(set(deaf.values())))}) are no "
            "plain linear modules, have hooks, or share their weights; leave --compile out"
        )
    return compilable


def _dots(name: str) -> list[int]:
    return [at for at, character in enumerate(name) if character == "."]
