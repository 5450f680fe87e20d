"""Before anything is measured: how samples may share a batch, and where each module keeps them."""

from collections.abc import Mapping, Sequence

import torch
from attrs import frozen
from transformers import PreTrainedModel

from layerlens_core.profiling.attribution.company import Company, company
from layerlens_core.profiling.attribution.layout import Layout
from layerlens_core.profiling.attribution.probe import OPEN, SCATTERED, SHARED, Marks, Rows
from layerlens_core.profiling.model.devices import input_device, on
from layerlens_core.profiling.model.losses import Terms, loss_terms
from layerlens_core.profiling.model.vocabulary_head import VocabularyHead
from layerlens_core.profiling.samples.sample import IGNORED, Sample, collate, extremes, runs_key, tokens
from layerlens_core.profiling.samples.tasks import lacks_padding, pad_token_id
from layerlens_core.values.profile import Task

#: Samples of the largest batch on which rows are marked; two do, where nothing is left open.
_MARKED = 3


@frozen
class Established:
    """How a model's samples go together.

    company: how they may share a batch.
    rows: by module, where it keeps its samples; empty where each runs alone, when all rows are its own.
    """

    company: Company
    rows: Mapping[str, Rows]

    @property
    def lost(self) -> list[str]:
        """Modules that can be scored only where samples run alone."""
        return [name for name, rows in self.rows.items() if rows.reason in (SHARED, SCATTERED, OPEN)]

    def layouts(self, module: str) -> Mapping[int, Layout]:
        """By number of dimensions, where a module keeps its samples."""
        return self.rows[module].layouts if module in self.rows else {}

    def reason(self, module: str) -> str | None:
        """Why it is not known where a module keeps its samples."""
        return self.rows[module].reason if module in self.rows else None


#: Where every sample has a batch of its own, nothing has to be known.
ALONE = Established("alone", {})


def establish(
    model: PreTrainedModel,
    modules: Sequence[str],
    samples: Sequence[Sample],
    task: Task,
    head: VocabularyHead | None = None,
) -> Established:
    """Try on a few of the samples how they go together.

    model: frozen and in evaluation mode.
    modules: names of those that are to be scored.
    samples: that are to be measured.
    task: which loss is computed.
    head: computes logits at labelled positions alone.
    """
    chosen = _chosen(samples)
    if len(chosen) < 2 or lacks_padding(model, task):
        return ALONE
    pad, device = pad_token_id(model, task, _MARKED), input_device(model)

    def run(batch: Sequence[Sample]) -> Terms:
        return loss_terms(model, on(device, collate(batch, pad)), task, head)

    with torch.no_grad():
        found = company(run, chosen[1], chosen[0], model.dtype)
    if found == "alone":
        return ALONE
    if found == "equal lengths":
        chosen = [chosen[1]] * len(chosen)
    marks = Marks.of(modules)
    marks.add(model, lambda: run(chosen[:2]).losses, 2, marked=(1, 0))
    if marks.open and len(chosen) > 2:
        # Another number of samples tells layouts apart that agree by chance with these marks.
        marks.add(model, lambda: run(chosen).losses, len(chosen), marked=(1, 0))
    return Established(found, marks.rows)


def _chosen(samples: Sequence[Sample]) -> list[Sample]:
    """The longest sample, the shortest, and one between that can share a batch, with a label in every place."""
    longest = max(samples, key=tokens)
    together = [sample for sample in samples if runs_key(sample) == runs_key(longest)]
    if len(together) < 2:
        return []
    between = sorted(together, key=tokens)[len(together) // 2]
    return [_labelled(sample) for sample in (*extremes(together), between)][: max(2, len(together))]


def _labelled(sample: Sample) -> Sample:
    """A sample whose loss looks at every place, so that as many rows as possible are marked."""
    labels = sample.get("labels", sample.get("input_ids"))
    assert labels is not None
    return sample | {"labels": labels.masked_fill(labels == IGNORED, 0) if labels.dim() else labels}
