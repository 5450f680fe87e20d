"""One family's row of the support table."""

from collections.abc import Iterable, Sequence

from attrs import frozen
from torch import nn
from transformers import PreTrainedModel

from families.support import SIZES, places
from layerlens_core.inspection.linear import linear_kind
from layerlens_core.values.inventory import Inventory, Layer


@frozen(kw_only=True)
class Row:
    """What one family supports: by method ``yes``, ``part``, ``no`` or ``–``, and the reasons."""

    name: str
    kind: str
    architecture: str
    model_type: str
    methods: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def line(self) -> str:
        """The row as the document has it."""
        cells = (self.name, self.kind, self.architecture, *self.methods, "; ".join(self.remarks))
        return f"| {' | '.join(cells)} |"


def row(name: str, kind: str, model: PreTrainedModel, inventory: Inventory, saved: Sequence[str]) -> Row:
    """What a family supports. saved: the types that its adapters of LoRA alone were saved as."""
    return Row(
        name=name,
        kind=kind,
        architecture=inventory.architecture,
        model_type=inventory.model_type,
        methods=tuple(_extent(inventory, method) for method in SIZES),
        remarks=tuple(_remarks(model, inventory, saved)),
    )


def _extent(inventory: Inventory, method: str) -> str:
    having = [bool(places(layer, method)) for layer in inventory.layers]
    if method == "lora-experts":
        return "yes" if any(having) else "–"
    return "yes" if all(having) else "part" if any(having) else "no"


def _remarks(model: PreTrainedModel, inventory: Inventory, saved: Sequence[str]) -> Iterable[str]:
    for method in ("adapter", "prefix"):
        lacking = [layer for layer in inventory.layers if not places(layer, method)]
        if lacking:
            yield f"{method}: {_why(model, lacking, method)}" + (
                f", such as in `{lacking[0].name}`" if len(lacking) < len(inventory.layers) else ""
            )
    blocks = dict.fromkeys(
        block.name.removeprefix(f"{layer.name}.") for layer in inventory.layers for block in layer.blocks
    )
    if blocks:
        yield f"adapter on {' and '.join(f'`{block}`' for block in blocks)} as a whole"
    obstacles: dict[str, dict[str, None]] = {}
    for skipped in inventory.skipped:
        if "reads its weight" in skipped.reason or "computes more" in skipped.reason:
            obstacles.setdefault(skipped.reason, {})[skipped.name.rpartition(".")[2]] = None
    for reason, names in obstacles.items():
        yield f"nothing on {', '.join(f'`{name}`' for name in names)}: {reason}"
    if "LAYERLENS" in saved:
        yield "LoRA is saved in LayerLens's own form, as PEFT 0.21 takes names of its linear maps for those of experts"


def _why(model: PreTrainedModel, lacking: Sequence[Layer], method: str) -> str:
    if method == "adapter":
        return "no linear map that is known to write to the residual stream"
    classes = dict.fromkeys(name for layer in lacking for name in _attentions(model.get_submodule(layer.name)))
    if not classes:
        return "no attention"
    return f"{' and '.join(classes)} {'is' if len(classes) == 1 else 'are'} not on transformers' attention interface"


def _attentions(layer: nn.Module) -> Iterable[str]:
    """The classes of the innermost modules that are called attentions and hold linear maps."""
    for module in layer.modules():
        inside = [child for child in module.modules() if child is not module and "Attention" in type(child).__name__]
        if "Attention" in type(module).__name__ and not inside and any(map(linear_kind, module.modules())):
            yield type(module).__name__
