"""The collators that are tried, each with its options, and what came of one."""

from typing import get_args

import layerlens_core as ll
from layerlens_core.errors import LayerLensError
from layerlens_core.values.profile import Task
from sweep.collators import (
    Collated,
    completion_only,
    default,
    default_of_classes,
    flattened,
    images,
    language_modelling,
    masked,
    pairs,
    tokens,
    trl,
    with_padding,
)
from sweep.compare import told
from sweep.truth import truth

#: Relative error of a score; norms are in float32 in most of these models.
TOLERANCE = 1e-4
_FLASH = {"return_flash_attn_kwargs": True}
COLLATED = (
    Collated(name="default_data_collator", family="llama", task="causal-lm", make=default),
    Collated(
        name="default_data_collator, label",
        family="bert-classifier",
        task="sequence-classification",
        make=default_of_classes,
    ),
    Collated(
        name="DataCollatorWithPadding", family="bert-classifier", task="sequence-classification", make=with_padding
    ),
    Collated(
        name="DataCollatorForLanguageModeling(mlm=False)", family="llama", task="causal-lm", make=language_modelling
    ),
    Collated(name="DataCollatorForLanguageModeling(mlm=True)", family="bert", task="masked-lm", make=masked),
    Collated(name="completion_mask", family="llama", task="causal-lm", make=completion_only("completion_mask")),
    Collated(name="assistant_masks", family="llama", task="causal-lm", make=completion_only("assistant_masks")),
    Collated(name="DataCollatorWithFlattening", family="llama", task="causal-lm", make=flattened(), packed=True),
    Collated(
        name="DataCollatorWithFlattening(return_flash_attn_kwargs)",
        family="llama",
        task="causal-lm",
        make=flattened(**_FLASH),
        packed=True,
    ),
    Collated(
        name="DataCollatorWithFlattening(return_seq_idx)",
        family="llama",
        task="causal-lm",
        make=flattened(return_seq_idx=True),
        packed=True,
    ),
    Collated(
        name="DataCollatorWithFlattening(return_flash_attn_kwargs, return_seq_idx)",
        family="llama",
        task="causal-lm",
        make=flattened(**_FLASH, return_seq_idx=True),
        packed=True,
    ),
    Collated(
        name="DataCollatorWithFlattening(return_position_ids=False, return_flash_attn_kwargs)",
        family="llama",
        task="causal-lm",
        make=flattened(**_FLASH, return_position_ids=False),
        packed=True,
    ),
    Collated(
        name="DataCollatorWithFlattening(return_position_ids=False, return_seq_idx)",
        family="llama",
        task="causal-lm",
        make=flattened(return_seq_idx=True, return_position_ids=False),
        packed=True,
    ),
    Collated(
        name="DataCollatorWithFlattening(position_ids_start=2)",
        family="roberta",
        task="masked-lm",
        make=flattened(position_ids_start=2),
    ),
    Collated(name="DataCollatorForSeq2Seq", family="t5", task="seq2seq-lm", make=pairs(model=False)),
    Collated(name="DataCollatorForSeq2Seq(model)", family="t5", task="seq2seq-lm", make=pairs(model=True)),
    Collated(
        name="DataCollatorForTokenClassification",
        family="bert-classifier",
        architecture="BertForTokenClassification",
        task="token-classification",
        make=tokens,
    ),
    Collated(name="TRL SFT", family="llama", task="causal-lm", make=trl()),
    Collated(name="TRL SFT(return_position_ids)", family="llama", task="causal-lm", make=trl(return_position_ids=True)),
    Collated(name="TRL SFT(padding_free)", family="llama", task="causal-lm", make=trl(padding_free=True), packed=True),
    Collated(
        name="TRL SFT(padding_free), packed rows",
        family="llama",
        task="causal-lm",
        make=trl(packed=True, padding_free=True),
        packed=True,
    ),
    Collated(
        name="TRL SFT(return_position_ids), packed rows",
        family="llama",
        task="causal-lm",
        make=trl(packed=True, return_position_ids=True),
        packed=True,
    ),
    Collated(
        name="images in text, two samples a batch", family="qwen2_vl", task="causal-lm", make=images(together=True)
    ),
    Collated(
        name="images in text, one sample a batch", family="qwen2_vl", task="causal-lm", make=images(together=False)
    ),
)


def held(case: Collated) -> tuple[str, str]:
    """What became of a collator's batches: ``right``, ``refused``, ``wrong`` or ``raw``, and what was said or found."""
    batches, documents = case.make()
    true = truth(case.model(), documents, case.task)
    task = case.task if case.task in get_args(Task) else None
    try:
        profile = ll.profile(case.model(), batches, metrics=["fisher"], micro_batch=4, task=task)
    except LayerLensError as error:
        return "refused", f"{type(error).__name__}: {error}"
    except Exception as error:
        return "raw", told(error)
    off = [
        abs(each.fisher - true.fisher[each.module]) / true.fisher[each.module]
        for each in profile.statistics
        if true.fisher[each.module] > 0
    ]
    said = f"{profile.samples} samples of {len(documents)}, {len(off)} modules, off by {max(off):.1e} at most"
    return ("right" if max(off) <= TOLERANCE and profile.samples == len(documents) else "wrong"), said
