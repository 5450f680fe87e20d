"""The support table, as docs/families.md holds it."""

from collections.abc import Iterable, Sequence

from attrs import frozen
from torch import nn
from transformers import PreTrainedModel

from families.support import SIZES, places
from layerlens_core.inspection.linear import linear_kind
from layerlens_core.values.inventory import Inventory, Layer

_HEADER = """# Model families

What can be done with each family of models. The table is made by `tests/families/test_matrix.py`, which applies every
method, and plans that mix them, to tiny random models of each family, and checks:

- at first the model computes what it did, to the last bit, and disabling or unloading gives that back;
- trainable parameters are the planned number, each tensor of them receives a gradient (of experts in a list, as in
  Switch, those that a token reaches), and they change the output;
- each expert of stacked experts gets its own A and B: r·E·(in + out) parameters;
- a saved adapter loads to the same output, to the last bit; LoRA alone, experts included, is saved as plain PEFT's
  `LORA` unless the remark says otherwise.

`yes`: in every layer, or for experts in every layer that has them. `part`: in some layers, the remark says why. `no`:
refused, for the reason in the remark. `–`: no stacked experts.
What is not in the table is not refused: `layerlens plan` inspects any model.

"""


@frozen(kw_only=True)
class Row:
    """What one family supports: by method ``yes``, ``part``, ``no`` or ``–``, and the reasons."""

    name: str
    kind: str
    architecture: str
    model_type: str
    methods: tuple[str, ...]
    remarks: tuple[str, ...]


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


def markdown(rows: Iterable[Row]) -> str:
    """The document."""
    rows = list(rows)
    lines = [
        "| family | kind | class | lora | adapter | prefix | lora-experts | remark |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.name} | {r.kind} | {r.architecture} | {' | '.join(r.methods)} | {'; '.join(r.remarks)} |" for r in rows
    ]
    families = len({r.model_type for r in rows})
    counts = ["\n| | lora | adapter | prefix | lora-experts |", "|---|---|---|---|---|"]
    for extent, label in (
        ("yes", "in every layer"),
        ("part", "in some layers"),
        ("no", "refused"),
        ("–", "no such place"),
    ):
        each = (sum(r.methods[at] == extent for r in rows) for at in range(len(SIZES)))
        counts.append(f"| {label} | {' | '.join(map(str, each))} |")
    return (
        _HEADER + f"{len(rows)} models of {families} families:\n" + "\n".join(counts) + "\n\n" + "\n".join(lines) + "\n"
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
