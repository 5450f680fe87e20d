"""What adapter_config.json may say: what plans write; all else is refused by the name of its field."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen
from peft import LoraConfig, TaskType

from layerlens_core.adaptation.config import NOTHING, PEFT_TYPE, VERSION, Entry
from layerlens_core.adaptation.saved.files import AdapterFiles
from layerlens_core.adaptation.target_patterns import names_in
from layerlens_core.errors import FileError, shown


@frozen(kw_only=True)
class Said:
    """What a configuration says, before it is compared with tensors and with a model.

    entries: of the type LAYERLENS, by module; None for PEFT's own LORA, whose shapes its tensors tell.
    targets: of LORA: full names by pattern, or names and ends of names where ``listed``.
    listed: whether targets were listed.
    parameters: full names of stacked experts' parameters.
    rank: of every module that ``ranks`` does not name.
    ranks: by full name.
    scale: α/r of every module.
    kept: settings that go on as they are, by PEFT's name.
    """

    entries: Mapping[str, Entry] | None
    targets: frozenset[str]
    listed: bool
    parameters: frozenset[str]
    rank: int
    ranks: Mapping[str, int]
    scale: float
    kept: Mapping[str, Any]


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 1e-290


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 < value < 2**31


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable()


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(_is_text(name) and name for name in value)


def _is_tokens(value: Any) -> bool:
    if isinstance(value, dict):
        return bool(value) and all(isinstance(tokens, list) and _is_tokens(tokens) for tokens in value.values())
    return isinstance(value, list) and bool(value) and all(type(token) is int and token >= 0 for token in value)


#: Settings that a plan or a trainer may have set: what each may be besides null, and what that is called.
_KEPT: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "base_model_name_or_path": (_is_text, "a name"),
    "revision": (_is_text, "a name"),
    "task_type": (lambda value: isinstance(value, str) and value in [each.value for each in TaskType], "a PEFT task"),
    "inference_mode": (lambda value: isinstance(value, bool), "true or false"),
    "lora_dropout": (lambda value: _is_number(value) and 0 <= value < 1, "a share"),
    "fan_in_fan_out": (lambda value: isinstance(value, bool), "true or false"),
    "ensure_weight_tying": (lambda value: isinstance(value, bool), "true or false"),
    "init_lora_weights": (lambda value: isinstance(value, bool) or value == "gaussian", "true, false or gaussian"),
    "modules_to_save": (_is_names, "a list of names"),
    "trainable_token_indices": (_is_tokens, "a list of tokens"),
}
#: Of those, where null is no setting.
_NEVER_NULL = frozenset(
    {"inference_mode", "lora_dropout", "fan_in_fan_out", "ensure_weight_tying", "init_lora_weights"}
)
#: What PEFT writes and nobody reads.
_NOTES = frozenset({"auto_mapping", "peft_version"})
#: What is read one by one.
_READ = frozenset(
    {"peft_type", "r", "lora_alpha", "target_modules", "target_parameters", "rank_pattern", "alpha_pattern"}
    | {"entries", "scale", "plain", "one_rank", "listed", "subspace", "fingerprint", "version"}
)


def read_config(files: AdapterFiles) -> Said:
    """What a configuration says. Raises `FileError` where it says what no plan writes, and names the field."""
    config, path = files.config, files.config_path
    kind = config.get("peft_type")
    if kind not in ("LORA", PEFT_TYPE):
        raise FileError(f"{path} describes an adapter of type {shown(str(kind))}; LayerLens loads LORA and {PEFT_TYPE}")
    version = config.get("version")
    if kind == PEFT_TYPE and (type(version) is not int or version != VERSION):
        raise FileError(f"{path} is of version {shown(str(version))}; this LayerLens reads version {VERSION}")
    kept = _kept(files)
    return _of_plan(files, kept) if kind == PEFT_TYPE else _of_peft(files, kept)


def _kept(files: AdapterFiles) -> dict[str, Any]:
    """The settings that go on as they are; everything else has to be as PEFT sets it by itself."""
    usual = LoraConfig().to_dict()
    kept = {}
    for name, value in files.config.items():
        if name in _KEPT:
            allowed, called = _KEPT[name]
            if not (allowed(value) or (value is None and name not in _NEVER_NULL)):
                raise _refusal(files, name, f"which has to be {called}")
            kept[name] = value
        elif name not in _READ | _NOTES and not _is_unset(name, value, usual):
            raise _refusal(files, name, "which no plan sets; PeftModel.from_pretrained may know what to do with it")
    return kept


def _is_unset(name: str, value: Any, usual: Mapping[str, Any]) -> bool:
    """Whether a setting says nothing: by type too, since 0 equals false and may name a layer.

    Null says nothing; of settings that this PEFT does not know, false neither.
    """
    if name not in usual:
        return value is None or value is False
    if value is None:
        return not isinstance(usual[name], str)  # PEFT wants a word there
    return type(value) is type(usual[name]) and bool(value == usual[name])


def _of_plan(files: AdapterFiles, kept: Mapping[str, Any]) -> Said:
    config, path = files.config, files.config_path
    entries = config.get("entries")
    if not isinstance(entries, dict) or not entries:
        raise FileError(f"{path} is damaged: it has no entries")
    for name, entry in entries.items():
        if not (_is_text(name) and _is_entry(entry)):
            raise FileError(f"{path} is damaged: the entry of {shown(name, 200)} is not a method, a size and a shape")
    if not _is_positive(config.get("scale")):
        raise _refusal(files, "scale", "which has to be a positive number")
    if config.get("target_modules", NOTHING) != NOTHING:
        raise _refusal(files, "target_modules", "beside entries, which name the modules")
    return Said(
        entries={name: Entry(**entry) for name, entry in entries.items()},
        targets=frozenset(),
        listed=False,
        parameters=frozenset(),
        rank=1,
        ranks={},
        scale=config["scale"],
        kept=kept,
    )


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or entry.keys() != {"method", "size", "shape"}:
        return False
    size, shape = entry["size"], entry["shape"]
    numbers = [size, *shape.values()] if isinstance(shape, dict) and shape else [None]
    return _is_text(entry["method"]) and all(_is_size(number) for number in numbers)


def _of_peft(files: AdapterFiles, kept: Mapping[str, Any]) -> Said:
    config = files.config
    rank, alpha, modules = config.get("r"), config.get("lora_alpha"), config.get("target_modules")
    parameters = [] if config.get("target_parameters") is None else config["target_parameters"]
    if not _is_size(rank):
        raise _refusal(files, "r", "which has to be a rank of 1 or more")
    if not _is_positive(alpha):
        raise _refusal(files, "lora_alpha", "which has to be a positive number")
    if not _is_names(parameters):
        raise _refusal(files, "target_parameters", "which has to be a list of names")
    assert isinstance(rank, int)
    assert isinstance(alpha, int | float)
    return Said(
        entries=None,
        targets=_targets(files, modules),
        listed=isinstance(modules, list),
        parameters=frozenset(parameters),
        rank=rank,
        ranks=_ranks(files, alpha / rank),
        scale=_whole(alpha / rank),
        kept=kept,
    )


def _targets(files: AdapterFiles, modules: Any) -> frozenset[str]:
    if modules == NOTHING:
        return frozenset()
    if isinstance(modules, str):
        found = names_in(modules)
        if found is None:
            raise _refusal(files, "target_modules", "a pattern that no plan writes; a list of names is read")
        return found
    if not _is_names(modules):
        raise _refusal(files, "target_modules", "which has to be a list of names, or a plan's pattern")
    return frozenset(modules)


def _ranks(files: AdapterFiles, scale: float) -> dict[str, int]:
    """Ranks by full name, of patterns that all have the one scale."""
    sizes, alphas = (files.config.get(name, {}) for name in ("rank_pattern", "alpha_pattern"))
    ranks: dict[str, int] = {}
    for field, patterns in (("rank_pattern", sizes), ("alpha_pattern", alphas)):
        if not isinstance(patterns, dict):
            raise _refusal(files, field, "which has to map a plan's patterns to numbers")
    for pattern, rank in sizes.items():
        names, alpha = names_in(pattern), alphas.get(pattern)
        if names is None or not _is_size(rank):
            raise _refusal(files, "rank_pattern", "which has to map a plan's patterns to ranks")
        if not _is_positive(alpha) or not math.isclose(alpha / rank, scale, rel_tol=1e-9):
            raise _refusal(files, "alpha_pattern", f"where plans have α of {scale:g} times each rank")
        if not ranks.keys().isdisjoint(names):
            raise _refusal(files, "rank_pattern", "whose patterns give a module two ranks")
        ranks |= dict.fromkeys(names, rank)
    if alphas.keys() - sizes.keys():
        raise _refusal(files, "alpha_pattern", "which has patterns that rank_pattern lacks")
    return ranks


def _whole(value: float) -> float:
    return int(value) if value.is_integer() else value


def _refusal(files: AdapterFiles, field: str, why: str) -> FileError:
    value = repr(files.config.get(field))
    told = value if len(value) <= 60 else f"{value[:57]}…"
    return FileError(f"{files.config_path} has {told} for {shown(field, 60)}, {why}")
