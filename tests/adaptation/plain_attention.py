"""An attention from scratch, as slow as it is plain."""

from collections.abc import Sequence

import torch
from attrs import frozen
from torch import Tensor, nn


def attend(query, keys, values, scaling):
    """What one query [d_k] takes from keys and values, lists of [d_k] and [d_v]."""
    weights = _softmax([scaling * (query * key).sum() for key in keys])
    return sum(weight * value for weight, value in zip(weights, values, strict=True))


def _softmax(scores):
    """Of a list of numbers, as in the textbook."""
    exponentials = [torch.exp(score - max(scores)) for score in scores]
    return [exponential / sum(exponentials) for exponential in exponentials]


def _rotated(vector, position, base):
    """Rotary positions (Su et al. 2021): the pairs (i, i + d/2) are turned by position · base^(−2i/d)."""
    half = len(vector) // 2
    turned = vector.clone()
    for i in range(half):
        angle = torch.tensor(position * base ** (-2 * i / len(vector)), dtype=vector.dtype)
        first, second = vector[i], vector[i + half]
        turned[i] = first * angle.cos() - second * angle.sin()
        turned[i + half] = second * angle.cos() + first * angle.sin()
    return turned


@frozen(kw_only=True)
class PlainAttention:
    """A whole attention module with a prefix, head by head and position by position.

    projections: names in the module, of queries, keys, values and, unless None, the output.
    heads: of queries, and of keys and values.
    prefix: keys [H_kv, n, d_k], values [H_kv, n, d_v] and gates [H_q].
    base: of rotary positions, where there are any.
    """

    module: nn.Module
    projections: Sequence[str | None]
    heads: tuple[int, int]
    scaling: float
    prefix: tuple[Tensor, Tensor, Tensor]
    base: float | None = None

    def outputs(self, hidden, source, visible):
        """The output [B, T, m].

        hidden, source: what queries, and keys and values, are projected from. visible(b, t, s): whether position t of
        sample b sees position s of the source.
        """
        q, k, v, o = (None if name is None else self.module.get_submodule(name) for name in self.projections)
        samples = []
        for b in range(len(hidden)):
            queries = _heads(q, hidden[b], self.heads[0])
            keys, values = (_heads(projection, source[b], self.heads[1]) for projection in (k, v))
            rows = []
            for t in range(len(queries)):
                seen = [s for s in range(len(keys)) if visible(b, t, s)]
                row = torch.cat([self._head(h, t, queries, keys, values, seen) for h in range(self.heads[0])])
                rows.append(row if o is None else o.weight @ row + (0 if o.bias is None else o.bias))
            samples.append(torch.stack(rows))
        return torch.stack(samples)

    def _head(self, h, t, queries, keys, values, seen):
        """What head h of position t takes from the positions that it sees, and from the prefix."""
        prefix_keys, prefix_values, gates = self.prefix
        kv = h // (self.heads[0] // self.heads[1])
        query = self._placed(queries[t, h], t)
        own = [self._placed(keys[s, kv], s) for s in seen]
        attended = attend(query, own, [values[s, kv] for s in seen], self.scaling) if seen else values[0, kv] * 0
        return attended + gates[h] * attend(query, prefix_keys[kv], prefix_values[kv], self.scaling)

    def _placed(self, vector, position):
        return vector if self.base is None else _rotated(vector, position, self.base)


def _heads(projection, hidden, count):
    """What is projected from [T, m], by head: [T, heads, d]."""
    bias = 0 if projection.bias is None else projection.bias
    return (hidden @ projection.weight.T + bias).unflatten(-1, (count, -1))
