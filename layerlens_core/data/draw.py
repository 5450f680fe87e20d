"""Which rows become samples: all are looked at once, then some are drawn by a seed, and what became of them is told."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice

import attrs
import torch
from attrs import define, field, frozen

from layerlens_core.data.encode import NO_COMPLETION, NO_LABEL, NO_TEXT, Encoder, why_not, words_and_tags
from layerlens_core.data.fields import Fields, Named, find_fields
from layerlens_core.data.labels import MARKS, Labels, is_mark
from layerlens_core.data.rows import Row, Rows
from layerlens_core.errors import DataError
from layerlens_core.profiling.samples.sample import Sample
from layerlens_core.values.profile import Task

#: Rows from which the fields are found.
_LOOKED_AT = 64
#: Why a row gives no sample, as far as its fields tell; the last one holds only where such labels mean that.
REASONS = ("", NO_TEXT, NO_COMPLETION, NO_LABEL, MARKED := f"{NO_LABEL} (-1 or -100)")
#: Rows that are fetched at a time at first, where it is not known how many are wanted.
_FETCHED = 32


@define
class Survey:
    """What all rows hold, gathered in one reading that keeps none of them.

    fields: which of the rows' fields mean what.
    labels: of all rows, where there is a label field.
    count: of the rows.
    why_not: for each row, the place in `REASONS` of why it can give no sample.
    """

    fields: Fields
    labels: Labels | None = None
    count: int = 0
    why_not: bytearray = field(factory=bytearray)


def survey(rows: Rows, *, named: Named | None = None, task: Task | None = None, name: str = "the data") -> Survey:
    """Look at all rows once.

    rows: to look at.
    named: as in `find_fields`.
    task: as in `find_fields`.
    name: of the data, for messages.

    Raises `DataError` where there is no row, where the fields are not found, and for a label that cannot be one.
    """
    reading = iter(rows)
    first = list(islice(reading, _LOOKED_AT))
    if not first:
        raise DataError(f"{name} holds no rows")
    fields = find_fields(first, named, task=task)
    labelled = fields.form in ("text-label", "words-tags")
    found = Survey(fields, Labels(fields.label, rows.typed) if labelled else None)
    for row in chain(first, reading):
        reason = why_not(row, fields)
        if found.labels is not None:
            reason = _add_labels(found, row) or reason
        found.why_not.append(REASONS.index(reason))
        found.count += 1
    return found


def _add_labels(found: Survey, row: Row) -> str:
    """Take a row's labels into account; why it gives no sample, where it has none."""
    number = found.count + 1
    assert found.labels is not None
    if found.fields.form == "words-tags":
        try:
            tags = words_and_tags(row, found.fields)[1]
        except DataError as error:
            raise DataError(f"row {number}: {error}") from None
        for tag in tags:
            if isinstance(found.labels.add(number, tag), list):
                raise DataError(f"row {number}: field {found.fields.label!r} holds a list of lists, not of tags")
        return ""
    label = found.labels.add(number, row.get(found.fields.label))
    if label is None:
        return NO_LABEL
    return MARKED if is_mark(label, MARKS) else ""


@frozen(kw_only=True)
class Counts:
    """What became of the rows.

    read: how many there are.
    used: how many became samples.
    cut: of these, how many had more tokens than are taken.
    repeated: of these, how many hold what one before them holds.
    left_out: rows that could not become samples, by why; of reasons that only show in the tokens, those drawn.
    max_length: tokens of a sample at most.
    """

    read: int
    used: int
    cut: int = 0
    repeated: int = 0
    left_out: Mapping[str, int] = field(factory=dict)
    max_length: int = 0

    def __str__(self) -> str:
        parts = [f"{self.read:,} rows read, {self.used:,} used"]
        if self.cut:
            parts.append(f"{self.cut:,} of them cut to {self.max_length} tokens")
        if self.repeated:
            parts.append(f"{self.repeated:,} of them {'repeats' if self.repeated == 1 else 'repeat'} an earlier one")
        if self.left_out:
            parts.append(f"left out: {_reasons(self.left_out)}")
        return "; ".join(parts)


def _reasons(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(left_out.items()))


def order(rows: int, seed: int) -> torch.Tensor:
    """Places of rows [rows] in the order in which they are drawn, without replacement; the first n are a draw of n."""
    return torch.randperm(rows, generator=torch.Generator().manual_seed(seed))


@define
class Draw:
    """Samples in the order drawn, encoded as they are asked for, so that nobody waits for more than are used.

    Rows that give none are passed over, and further ones drawn instead while there are any.

    rows: to draw from.
    survey: of these rows.
    encoder: of rows.
    seed: of the draw.
    most: samples at most.
    check: called with every sample.
    lazily: whether fewer may be asked for, so that rows are fetched in parts that grow.
    """

    rows: Rows
    survey: Survey
    encoder: Encoder
    seed: int
    most: int
    check: Callable[[Sample], object] = lambda sample: None
    lazily: bool = False
    _counts: Counts = field(init=False, factory=lambda: Counts(read=0, used=0))

    def __iter__(self) -> Iterator[Sample]:
        target = self.encoder.target
        no_reason = {0} if target is not None and target.marks else {0, REASONS.index(MARKED)}
        why_not = self.survey.why_not
        left_out = Counter(REASONS[why] for why in why_not if why not in no_reason)
        places = enumerate(map(int, order(self.survey.count, self.seed).numpy()))
        usable = ((turn, place) for turn, place in places if why_not[place] in no_reason)
        self._counts = Counts(
            read=self.survey.count, used=0, left_out=dict(left_out), max_length=self.encoder.max_length
        )
        used = cut = repeated = 0
        seen: set[bytes] = set()
        fetched = _FETCHED
        while used < self.most and (
            turns := list(islice(usable, fetched if self.lazily else max(self.most - used, _FETCHED)))
        ):
            found = self.rows.pick({place for _, place in turns})
            for turn, place in turns:
                encoded = self.encoder(found[place], place=turn, number=place + 1)
                if encoded.sample is None:
                    left_out[encoded.why_not] += 1
                    self._counts = attrs.evolve(self._counts, left_out=dict(left_out))
                    continue
                self.check(encoded.sample)
                used += 1
                cut += encoded.cut
                content = self._content(found[place])
                repeated += content in seen
                seen.add(content)
                self._counts = attrs.evolve(self._counts, used=used, cut=cut, repeated=repeated)
                yield encoded.sample
                if used == self.most:
                    return
            fetched = min(2 * fetched, 1024)
        if used == 0:
            raise DataError(f"no row gives a sample: of {self.survey.count:,} rows {_reasons(left_out)}")

    @property
    def counts(self) -> Counts:
        """What became of the rows, as far as samples were asked for."""
        return self._counts

    def _content(self, row: Row) -> bytes:
        fields = self.encoder.fields
        names = {
            "text": (fields.text,),
            "text-label": (fields.text, fields.label),
            "words-tags": (fields.text, fields.label),
            "prompt-completion": (fields.prompt, fields.completion),
            "messages": (fields.messages,),
        }[fields.form]
        text = repr([row.get(name) for name in names])
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
