"""An adapter's configuration, tensors and model compared with one another, before anything is built."""

from collections import Counter
from collections.abc import Mapping

from attrs import frozen
from torch import Tensor
from transformers import PreTrainedModel

from layerlens_core.adaptation.attached import bare_name, ends_like
from layerlens_core.adaptation.config import Entry, LayerLensConfig, configure
from layerlens_core.adaptation.model import check_fits
from layerlens_core.adaptation.one_rank import rank_of
from layerlens_core.adaptation.provided import provided_side
from layerlens_core.adaptation.saved.beside import check_beside
from layerlens_core.adaptation.saved.config import Said
from layerlens_core.adaptation.saved.files import AdapterFiles
from layerlens_core.errors import FileError, ModelError
from layerlens_core.inspection.inspect import inspect
from layerlens_core.values.plan import LORA_METHODS


@frozen(eq=False)
class _Found:
    """An adapter's tensors, sorted out.

    lora: pairs of A and B by the bare name of what they are on, several for stacked experts.
    rest: of side modules, of heads and of embeddings, by name.
    """

    lora: Mapping[str, list[tuple[Tensor, Tensor]]]
    rest: Mapping[str, Tensor]


def configuration(files: AdapterFiles, said: Said, model: PreTrainedModel) -> LayerLensConfig:
    """The configuration that builds an adapter as it was planned: at each module's own rank, without padding.

    Raises `FileError` where tensors are not what the configuration says, and `ModelError` where the model has no place
    for them.
    """
    found = _sorted_out(files)
    entries = _entries_of_lora(files, said, found, model) if said.entries is None else dict(said.entries)
    heads = list(said.kept.get("modules_to_save") or ())
    config = configure(entries, scale=said.scale, heads=heads)
    check_fits(model, config)
    _check_lora(files, entries, found)
    others = _check_sides(files, entries, found.rest, model)
    check_beside(files, said, others, heads, model)
    for name, value in said.kept.items():
        setattr(config, name, value)
    if said.entries is not None:
        config.plain = "no"
    elif said.listed:
        config.plain = "names"
    config.one_rank = not said.ranks
    return config


def _sorted_out(files: AdapterFiles) -> _Found:
    lora: dict[str, list[tuple[Tensor, Tensor]]] = {}
    rest = {}
    for name, tensor in files.tensors.items():
        holder, _, kind = name.removesuffix(".weight").rpartition(".")
        if not name.endswith(".weight") or kind not in ("lora_A", "lora_B"):
            rest[name] = tensor
        elif kind == "lora_A":
            other = files.tensors.get(f"{holder}.lora_B.weight")
            if other is None:
                raise FileError(f"{files.directory} is damaged: it holds {name}, but no B beside it")
            if not (tensor.dim() == other.dim() == 2 and len(tensor) == other.shape[1] > 0):
                shapes = f"{list(tensor.shape)} and {list(other.shape)}"
                raise FileError(
                    f"{files.directory} is damaged: A and B at {holder} are {shapes}, which give no product"
                )
            lora.setdefault(bare_name(holder), []).append((tensor, other))
        elif f"{holder}.lora_A.weight" not in files.tensors:
            raise FileError(f"{files.directory} is damaged: it holds {name}, but no A beside it")
    return _Found(lora, rest)


def _entries_of_lora(files: AdapterFiles, said: Said, found: _Found, model: PreTrainedModel) -> dict[str, Entry]:
    """Entries of PEFT's own LORA: the modules that its tensors name, if the configuration names the same ones."""
    holders = {name.rpartition(".")[0] for name in said.parameters}
    on_modules = {name: pairs[0] for name, pairs in found.lora.items() if name not in holders}
    modules = {name for name, _ in model.named_modules(remove_duplicate=False)}
    if lacking := sorted(on_modules.keys() - modules):
        raise ModelError(
            f"{files.directory} holds LoRA on {lacking[0]}, for which this model has no place "
            f"({len(lacking)} such modules)"
        )
    named = said.targets
    if said.listed:
        # As PEFT does: by the end of their names, and nothing inside of what trains in full.
        inside = [*(said.kept.get("modules_to_save") or ()), *holders]
        named = frozenset(
            n for n in modules if ends_like(n, said.targets) and not any(_is_within(n, h) for h in inside)
        )
    if differing := sorted(named ^ on_modules.keys()):
        has = "names" if differing[0] in named else "does not name"
        raise FileError(
            f"{files.config_path} {has} {differing[0]} in target_modules, unlike the tensors beside it "
            f"({len(differing)} such modules)"
        )
    entries = {}
    for name, (a, b) in on_modules.items():
        rank = said.ranks.get(name, said.rank)
        if rank != len(a):
            raise FileError(f"{files.config_path} gives {name} the rank {rank}, but its tensors have rank {len(a)}")
        shape = {"in_features": a.shape[1], "out_features": b.shape[0]}
        entries[name] = Entry(method="lora", size=rank if said.ranks else rank_of(a, b), shape=shape)
    shapes = inspect(model).shapes if said.parameters else {}
    for name in sorted(said.parameters):
        if "experts" not in shapes.get(name, {}):
            raise ModelError(f"{files.directory} holds LoRA on the experts {name}, which this model lacks")
        entries[name] = Entry(method="lora", size=said.ranks.get(name, said.rank), shape=shapes[name])
    if unknown := sorted(said.ranks.keys() - entries.keys()):
        raise FileError(f"{files.config_path} gives {unknown[0]} a rank in rank_pattern, but nothing is trained there")
    return entries


def _is_within(name: str, end: str) -> bool:
    """Whether a module is one whose name ends like this, or lies in one."""
    return f".{end}." in f".{name}."


def _check_lora(files: AdapterFiles, entries: Mapping[str, Entry], found: _Found) -> None:
    """Raises where pairs of A and B are not those of the entries, in number, rank and width."""
    wanted: dict[str, Counter[tuple[int, ...]]] = {}
    for name, entry in entries.items():
        if entry.method in LORA_METHODS:
            shape, holder = entry.shape, name
            if "experts" in shape:
                holder = name.rpartition(".")[0]
            if not {"in_features", "out_features"} <= shape.keys():
                raise FileError(f"{files.config_path} is damaged: LoRA on {name} has no in_features and out_features")
            widths = sorted((shape["in_features"], shape["out_features"]))
            wanted.setdefault(holder, Counter())[(entry.size * shape.get("experts", 1), *widths)] += 1
    for name in sorted(wanted.keys() | found.lora.keys()):
        pairs = found.lora.get(name, [])
        held = Counter((_rank(entries.get(name), a, b), *sorted((a.shape[1], b.shape[0]))) for a, b in pairs)
        if held == wanted.get(name):
            continue
        if not pairs:
            raise ModelError(f"{files.directory} lacks {name}.lora_A.weight, which this model needs")
        if name not in wanted:
            raise ModelError(f"{files.directory} holds {name}.lora_A.weight, for which this model has no place")
        raise FileError(
            f"{files.directory} is damaged: LoRA on {name} has other ranks or widths than {files.config_path.name} says"
        )


def _rank(entry: Entry | None, a: Tensor, b: Tensor) -> int:
    """The rank of a pair; where it is padded, that of the entry."""
    if entry is not None and entry.size < len(a) and rank_of(a, b) <= entry.size:
        return entry.size
    return len(a)


def _check_sides(
    files: AdapterFiles, entries: Mapping[str, Entry], rest: Mapping[str, Tensor], model: PreTrainedModel
) -> dict[str, Tensor]:
    """What is left of the tensors without those of side modules, which have to be as large as they are planned."""
    planned = {name: entry for name, entry in entries.items() if entry.method not in LORA_METHODS}
    sides = {method: provided_side(method) for method in sorted({entry.method for entry in planned.values()})}
    left, shapes = dict(rest), inspect(model).shapes if planned else {}
    prefixes = {f"{name}.{sides[entry.method].module.child}": name for name, entry in planned.items()}
    sizes = dict.fromkeys(planned, 0)
    for key in rest:
        holder = bare_name(key)
        while holder and holder not in prefixes:
            holder = holder.rpartition(".")[0]
        if holder:
            sizes[prefixes[holder]] += left.pop(key).numel()
    for prefix, name in prefixes.items():
        entry = planned[name]
        if name in shapes and not _agree(entry.shape, shapes[name]):
            raise ModelError(
                f"the {entry.method} on {name} was planned for {_spelled(entry.shape)}, but here that place has "
                f"{_spelled(shapes[name])}"
            )
        if not any(set(place) <= entry.shape.keys() for place in sides[entry.method].places):
            raise FileError(f"{files.config_path} is damaged: {name} has the shape of no place for {entry.method}")
        needed = sides[entry.method].parameters_of(name, entry)
        if needed != sizes[name]:
            held = f"{prefix} of {sizes[name]:,} values, where its entry is for {needed:,}"
            does = "lacks tensors of" if sizes[name] < needed else "holds too much of"
            raise FileError(f"{files.directory} is damaged: it {does} {held}")
    return left


def _agree(planned: Mapping[str, int], here: Mapping[str, int]) -> bool:
    return all(planned[key] == here[key] for key in planned.keys() & here.keys())


def _spelled(shape: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {size}" for name, size in shape.items())
