"""The shape of a micro-batch, by which a module's rows are attributed to samples."""

from attrs import frozen
from torch import Tensor

from layerlens_core.profiling.model.samples import Sample


@frozen
class BatchShape:
    """The shape of a micro-batch.

    samples: how many.
    lengths: of its sequences, padding included.
    """

    samples: int
    lengths: frozenset[int]

    @classmethod
    def of(cls, batch: Sample) -> "BatchShape":
        """The shape of a batch that the model takes."""
        lengths = frozenset(value.shape[1] for value in batch.values() if value.dim() == 2)
        return cls(len(next(iter(batch.values()))), lengths)

    def by_sample(self, rows: Tensor) -> Tensor | None:
        """A module's inputs or outputs as [samples, tokens, features]; None where rows cannot be attributed to samples.

        Some models fold [samples, tokens] into one dimension before a linear module, which can be undone. A router that
        sends tokens to experts cannot be undone, unless there is a single sample.
        """
        if rows.dim() >= 3 and rows.shape[0] == self.samples:
            return rows.flatten(1, -2)
        if rows.dim() == 2 and rows.shape[0] == self.samples:
            return rows[:, None]
        folded = {self.samples * length for length in self.lengths}
        if rows.dim() == 2 and (self.samples == 1 or rows.shape[0] in folded):
            return rows.reshape(self.samples, -1, rows.shape[-1])
        return None
