"""Turn rows into samples for a task, with a tokenizer."""

from collections.abc import Sequence
from typing import Any

import torch
from attrs import field, frozen
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerBase

from layerlens_core.data.fields import Fields
from layerlens_core.data.labels import described
from layerlens_core.data.leading import leading, trailing
from layerlens_core.data.parts import Parts, check_template, parts_of, text_in
from layerlens_core.data.rows import Row
from layerlens_core.data.target import Target, UnknownLabelError
from layerlens_core.errors import DataError, first_line
from layerlens_core.profiling.samples.sample import IGNORED, Sample
from layerlens_core.values.profile import Task

#: Gives every sample a seed of its own, so that its masked tokens do not depend on which samples come before it.
_SEED_STRIDE = 1_000_003

#: Why a row gives no sample.
NO_TEXT, NO_COMPLETION, NO_LABEL = "with an empty text", "with an empty completion", "without a label"
#: Of rows that were not among those by which it was decided what is to be learnt.
UNKNOWN_LABEL = "with a label that the training data do not have"
NOTHING_MASKED, NOTHING_TO_LEARN = "in which no token happened to be masked", "too short to predict a token"


@frozen
class Encoded:
    """What became of a row.

    sample: without padding; None where the row gives none.
    why_not: why it gives none.
    cut: whether tokens were left out, since there were more than are taken.
    """

    sample: Sample | None
    why_not: str = ""
    cut: bool = False


@frozen(kw_only=True)
class Encoder:
    """Encodes rows, one at a time.

    fields: which of the rows' fields mean what.
    tokenizer: of the model.
    task: which loss the samples are for.
    target: what labels mean, for classification.
    max_length: tokens of a sample at most.
    seed: of masked tokens.

    Raises `DataError` where the tokenizer lacks what the task needs (a mask token, a chat template, words).
    """

    fields: Fields
    tokenizer: PreTrainedTokenizerBase
    task: Task
    target: Target | None = None
    max_length: int = 256
    seed: int = 0
    _masker: Any = field(init=False, eq=False, default=None)

    def __attrs_post_init__(self) -> None:
        if self.fields.form == "messages":
            check_template(self.tokenizer)
        if self.task == "token-classification" and not self.tokenizer.is_fast:
            raise DataError(
                f"{type(self.tokenizer).__name__} does not tell which word a token belongs to; token classification "
                "needs a tokenizer that does (one saved as tokenizer.json)"
            )
        if self.task == "masked-lm":
            if self.tokenizer.mask_token_id is None:
                raise DataError("the tokenizer has no mask token, so it does not fit a masked language model")
            # The collator's own function for masking is used, for one sample at a time.
            masker = DataCollatorForLanguageModeling(self.tokenizer, mlm=True, seed=self.seed)
            object.__setattr__(self, "_masker", masker)

    def __call__(self, row: Row, *, place: int, number: int) -> Encoded:
        """A row as a sample.

        row: to encode.
        place: among all that are drawn, from 0; which tokens are masked depends on it and on the seed alone.
        number: of the row, as messages name it.

        Raises `DataError` that names the row, where its fields do not hold what they should.
        """
        try:
            return self._encoded(row, place)
        except UnknownLabelError:
            return Encoded(None, UNKNOWN_LABEL)
        except DataError as error:
            raise DataError(f"row {number}: {error}") from None

    def _encoded(self, row: Row, place: int) -> Encoded:
        if reason := why_not(row, self.fields):
            return Encoded(None, reason)
        if self.fields.form in ("prompt-completion", "messages"):
            sample, cut = self._pair(parts_of(row, self.fields, self.tokenizer))
        elif self.fields.form == "words-tags":
            sample, cut = self._words(row)
        else:
            sample, cut = self._text(text_in(row, self.fields.text))
        if any(len(tokens) == 0 for tokens in sample.values()):
            return Encoded(None, NO_TEXT)
        if self.fields.form == "text-label":
            assert self.target is not None
            label = self.target.label(row.get(self.fields.label))
            if label is None:
                return Encoded(None, NO_LABEL)
            sample["labels"] = torch.tensor(label)
            return Encoded(sample, cut=cut)
        if self.task == "masked-lm":
            self._masker.generator = torch.Generator().manual_seed(self.seed * _SEED_STRIDE + place)
            tokens, targets = self._masker.torch_mask_tokens(sample["input_ids"][None].clone())
            sample |= {"input_ids": tokens[0], "labels": targets[0]}
        elif self.fields.form == "text":
            sample["labels"] = sample["input_ids"].clone()
        predicted = sample["labels"][1:] if self.task == "causal-lm" else sample["labels"]
        if bool((predicted != IGNORED).any()):
            return Encoded(sample, cut=cut)
        nothing = {"masked-lm": NOTHING_MASKED, "token-classification": NO_LABEL}
        return Encoded(None, nothing.get(self.task, NOTHING_TO_LEARN))

    def _tokens(self, text: Any, **options: Any) -> Any:
        """What the tokenizer gives; what it raises, by name."""
        try:
            # Not verbose: it would warn of texts that are too long, which are cut by us.
            return self.tokenizer(text, verbose=False, **options)
        except Exception as error:
            raise _not_taken(error) from error

    def _truncated(self, text: Any, **options: Any) -> tuple[Any, bool]:
        """What the tokenizer gives of a text, at most ``max_length`` tokens, and whether there were more."""
        encoded = self._tokens(text, truncation=True, max_length=self.max_length, **options)
        if len(encoded["input_ids"]) < self.max_length:
            return encoded, False
        longer = self._tokens(text, truncation=True, max_length=self.max_length + 1, **options)
        return encoded, len(longer["input_ids"]) > self.max_length

    def _near(self, text: str, *, special: bool = True) -> str:
        """The part of a text in which the tokens lie that the tokenizer's truncation keeps."""
        part = trailing if self.tokenizer.truncation_side == "left" else leading
        return self._part(part, text, special)

    def _part(self, part: Any, text: str, special: bool) -> str:
        try:
            return str(part(text, self.tokenizer, self.max_length, special=special))
        except DataError:
            raise
        except Exception as error:
            raise _not_taken(error) from error

    def _text(self, text: str) -> tuple[Sample, bool]:
        near = self._near(text)
        encoded, cut = self._truncated(near)
        return _tensors(encoded), cut or len(near) < len(text)

    def _words(self, row: Row) -> tuple[Sample, bool]:
        """Words as tokens, the first token of each with the word's tag; the others have none."""
        assert self.target is not None
        words, tags = words_and_tags(row, self.fields)
        labels = [self.target.label(tag) for tag in tags]
        encoded, cut = self._truncated(words, is_split_into_words=True)
        before, targets = None, []
        for word in encoded.word_ids():
            label = labels[word] if word is not None and word != before else None
            targets.append(IGNORED if label is None else label)
            before = word
        return _tensors(encoded) | {"labels": torch.tensor(targets, dtype=torch.long)}, cut

    def _pair(self, parts: Parts) -> tuple[Sample, bool]:
        """A prompt and its completion as one sample, with the loss on the completion alone."""
        special = not parts.templated
        end = self.tokenizer.eos_token_id
        if self.task == "seq2seq-lm":
            prompt, completion = self._near(parts.prompt, special=special), self._near(parts.completion)
            source, cut = self._truncated(prompt, add_special_tokens=special)
            target, target_cut = self._truncated(None, text_target=completion)
            cut = cut or target_cut or len(prompt) < len(parts.prompt) or len(completion) < len(parts.completion)
            return _tensors(source) | {"labels": torch.tensor(target["input_ids"], dtype=torch.long)}, cut
        prompt = self._part(trailing, parts.prompt, special)
        completion = self._part(leading, parts.completion, special=False)
        before = self._tokens(prompt, add_special_tokens=special)["input_ids"]
        if special and before and before[-1] == end:
            before = before[:-1]
        after = self._tokens(completion, add_special_tokens=False)["input_ids"]
        if special and end is not None:
            after = [*after, end]
        # A prompt that is too long loses its beginning, so that something of the completion is always left.
        kept = before[max(0, len(before) + min(len(after), self.max_length // 2) - self.max_length) :]
        tokens = torch.tensor([*kept, *after][: self.max_length], dtype=torch.long)
        labels = tokens.clone()
        labels[: len(kept)] = IGNORED
        sample = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels}
        return sample, len(tokens) < len(before) + len(after)


def encode(
    rows: Sequence[Row],
    fields: Fields,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    *,
    target: Target | None = None,
    max_length: int = 256,
    seed: int = 0,
) -> list[Sample]:
    """Rows that are in memory as samples; those that give none are left out.

    rows: to encode.
    fields: as in `Encoder`.
    tokenizer: as in `Encoder`.
    task: as in `Encoder`.
    target: as in `Encoder`.
    max_length: as in `Encoder`.
    seed: as in `Encoder`.

    Raises `DataError` as `Encoder` does.
    """
    encoder = Encoder(
        fields=fields, tokenizer=tokenizer, task=task, target=target, max_length=max_length, seed=seed
    )  # fmt: skip
    encoded = [encoder(row, place=place, number=place + 1).sample for place, row in enumerate(rows)]
    return [sample for sample in encoded if sample is not None]


def why_not(row: Row, fields: Fields) -> str:
    """Why a row gives no sample, as far as its texts tell; empty where it may give one."""
    if fields.form in ("prompt-completion", "messages"):
        answer = row.get(fields.completion if fields.form == "prompt-completion" else fields.messages)
        last = answer[-1] if isinstance(answer, list) and answer else answer
        said = last.get("content", last.get("value")) if isinstance(last, dict) else last
        return NO_COMPLETION if _is_blank(said) else ""
    if fields.form == "words-tags":
        return NO_TEXT if row.get(fields.text) == [] else ""
    return NO_TEXT if _is_blank(row.get(fields.text)) else ""


def words_and_tags(row: Row, fields: Fields) -> tuple[list[str], list[Any]]:
    """A row's words, and one tag for each. Raises `DataError` where they are anything else."""
    words, tags = row.get(fields.text), row.get(fields.label)
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise DataError(f"field {fields.text!r} must hold a list of words, but holds {described(words)}")
    if not isinstance(tags, list):
        raise DataError(f"field {fields.label!r} must hold a list of one tag a word, but holds {described(tags)}")
    if len(words) != len(tags):
        raise DataError(
            f"field {fields.text!r} holds {len(words)} words and field {fields.label!r} {len(tags)} tags; "
            "each word needs one"
        )
    return words, tags


def _not_taken(error: Exception) -> DataError:
    return DataError(f"the tokenizer does not take the text: {type(error).__name__}: {first_line(error)}")


def _is_blank(value: object) -> bool:
    return isinstance(value, str) and not value.strip()


def _tensors(encoded: Any) -> Sample:
    return {key: torch.tensor(value, dtype=torch.long) for key, value in encoded.items()}
