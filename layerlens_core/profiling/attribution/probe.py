"""Find out which rows of each module belong to which sample: one sample's loss is sent back alone, and marks them.

What a row of a module's output adds to the gradient of sample i's loss is sample i's, whatever the row's place. So for
one sample at a time the backward pass of its loss alone is run on a small batch: rows with an output gradient are that
sample's, and the dimension in which they lie apart from those of others is the one that counts samples. No size is
looked at, so that as many samples as tokens, windows, or models that keep time first are no trap.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from attrs import define, field, frozen
from torch import Tensor
from transformers import PreTrainedModel

from layerlens_core.profiling.attribution.layout import Layout, agreeing
from layerlens_core.profiling.hooks.attach import attached
from layerlens_core.profiling.hooks.tap import Ear

#: Gives ℓᵢ [samples] of a batch, with a graph.
Losses = Callable[[], Tensor]

_ALONE = "profile with micro_batch=1"
SHARED = f"its rows serve several samples at once, as those of a table do that all share; {_ALONE}"
SCATTERED = f"its rows are not kept sample by sample, as of tokens that are sent to experts; {_ALONE}"
OPEN = f"which of its rows belong to which sample could not be told; {_ALONE}"
UNSEEN = f"no gradient reached it when it was tried which of its rows belong to which sample; {_ALONE}"


@frozen
class Rows:
    """Where a module keeps its samples.

    layouts: by the number of dimensions beside the features; a module may be called with several.
    reason: why it is not known, where it is not.
    """

    layouts: Mapping[int, Layout]
    reason: str | None = None


@define
class _Seen:
    """What the marks of one module have shown so far.

    candidates: by number of dimensions, the layouts that agree with all marks.
    marked: by shape and sample, the rows that it touched.
    """

    candidates: dict[int, frozenset[Layout]] = field(factory=dict)
    marked: dict[tuple[int, ...], dict[int, Tensor]] = field(factory=dict)

    def mark(self, shape: tuple[int, ...], samples: int, sample: int, touched: Tensor) -> None:
        if not touched.any():
            return
        found = agreeing(shape, samples, {sample: touched})
        dims = len(shape)
        self.candidates[dims] = self.candidates.get(dims, found) & found
        by_sample = self.marked.setdefault((samples, *shape), {})
        by_sample[sample] = by_sample[sample] | touched if sample in by_sample else touched

    @property
    def rows(self) -> Rows:
        if not self.candidates:
            return Rows({}, UNSEEN)
        known = {dims: next(iter(found)) for dims, found in self.candidates.items() if len(found) == 1}
        if len(known) == len(self.candidates):
            return Rows(known)
        if any(len(found) > 1 for found in self.candidates.values()):
            return Rows(known, OPEN)
        shared = any(
            bool((one & other).any())
            for by_sample in self.marked.values()
            for first, one in by_sample.items()
            for second, other in by_sample.items()
            if first < second
        )
        return Rows(known, SHARED if shared else SCATTERED)


@define
class Marks:
    """Which rows of each module were seen to belong to which sample.

    modules: by name.
    """

    modules: dict[str, _Seen]

    @classmethod
    def of(cls, modules: Iterable[str]) -> "Marks":
        """None yet, of these modules."""
        return cls({name: _Seen() for name in modules})

    def add(self, model: PreTrainedModel, losses: Losses, samples: int, marked: Sequence[int]) -> None:
        """Mark rows on one batch.

        model: that holds the modules.
        losses: runs the model on the batch.
        samples: in the batch, at least two.
        marked: whose loss is sent back, one after the other.
        """
        for sample in marked:
            ears = {name: Ear(_listener(seen, samples, sample), lambda: None) for name, seen in self.modules.items()}
            with attached(model, ears), torch.enable_grad():
                torch.autograd.backward(losses()[sample])

    @property
    def rows(self) -> dict[str, Rows]:
        """Where each module keeps its samples.

        Of experts some may get as many rows of each sample by chance, and look like others. So where one of several
        modules that differ in numbers of their names alone gets its rows in no order, or one of those that get lists of
        rows got none, none of them is trusted.
        """
        found = {name: seen.rows for name, seen in self.modules.items()}
        alike: dict[str, list[str]] = {}
        for name in found:
            alike.setdefault(re.sub(r"\d+", "#", name), []).append(name)
        for names in alike.values():
            reasons = {found[name].reason for name in names}
            lists = any(1 in found[name].layouts for name in names)
            if SCATTERED in reasons or (lists and UNSEEN in reasons):
                found |= {name: Rows({}, SCATTERED) for name in names}
        return found

    @property
    def open(self) -> bool:
        """Whether some module's layout is one of several that agree with all marks so far."""
        return any(len(found) > 1 for seen in self.modules.values() for found in seen.candidates.values())


def _listener(seen: _Seen, samples: int, sample: int) -> Callable[[Tensor, Tensor], None]:
    def listen(_inputs: Tensor, gradient: Tensor) -> None:
        touched = (gradient.detach() != 0).any(dim=-1).flatten().cpu()
        seen.mark(tuple(gradient.shape[:-1]), samples, sample, touched)

    return listen
