"""The part of a long text that its first, or last, tokens come from, so that a text of 50 MB is not encoded whole."""

import random

from transformers import PreTrainedTokenizerBase

from layerlens_core.errors import DataError

#: Characters for each wanted token, up to which texts are encoded whole.
_SHORT = 64
#: Characters for each wanted token that are tried first. Words are shorter in all languages.
_FIRST = 16
#: Characters that are encoded at most: half a gigabyte of tokens, their texts and their places.
MOST = 2**21
#: Beginnings that are compared where a part has to begin inside a word.
_BEGINNINGS = 16


def leading(text: str, tokenizer: PreTrainedTokenizerBase, tokens: int, *, special: bool = True) -> str:
    """A beginning of the text, or all of it, whose first ``tokens`` tokens are those of the whole text.

    text: of any length.
    tokenizer: of the model.
    tokens: how many are wanted.
    special: whether special tokens are added to texts.

    Tokens depend on what is near: those of one beginning are taken where it gives twice as many as are wanted, and
    where a beginning half as long has the same ones. One that gives too few is doubled, in the end to the whole text.

    Raises `DataError` where more than `MOST` characters would have to be encoded.
    """
    enough, before = tokens + _FIRST, None
    length = _FIRST * enough
    while len(text) > _SHORT * enough and length < min(len(text), MOST):
        found = _tokens(text[:length], tokenizer, special)
        if len(found) >= 2 * enough:
            if before == found[:tokens]:
                return text[:length]
            before = found[:tokens]
        length *= 2
    return _whole(text)


def trailing(text: str, tokenizer: PreTrainedTokenizerBase, tokens: int, *, special: bool = True) -> str:
    """An end of the text, or all of it, whose last ``tokens`` tokens are those of the whole text.

    text: of any length.
    tokenizer: of the model.
    tokens: how many are wanted.
    special: as in `leading`.

    As `leading`, but tokens are found from the left, so that an end should begin where a word does. Where there is no
    blank near, ends with many beginnings must have the same tokens: then it does not matter where they begin.

    Raises `DataError` as `leading`.
    """
    enough, before = tokens + _FIRST, None
    length, draw = _FIRST * enough, random.Random(0)
    while len(text) > _SHORT * enough and 2 * length < min(len(text), MOST):
        word = _word_before(text, len(text) - length, length)
        near = [len(text) - length - draw.randrange(length) for _ in range(_BEGINNINGS)]
        starts = near if word is None else [word]
        found = [_tokens(text[start:], tokenizer, special) for start in starts]
        if all(len(each) >= 2 * enough for each in found):
            ends = {tuple(each[-tokens:]) for each in found}
            if len(ends) == 1 and (word is None or ends == before):
                return text[starts[0] :]
            before = ends
        length *= 2
    return _whole(text)


def _whole(text: str) -> str:
    if len(text) > MOST:
        raise DataError(
            f"a text of {len(text):,} characters gives hardly a token, or has no place where its tokens could be "
            f"parted, in {MOST:,} of them; cut it, or part its words"
        )
    return text


def _tokens(text: str, tokenizer: PreTrainedTokenizerBase, special: bool) -> list[int]:
    # Not verbose: it would warn of texts that are longer than the model takes.
    found: list[int] = tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
    return found


def _word_before(text: str, start: int, within: int) -> int | None:
    """The last place up to ``start`` where a blank follows something else; None where there is none near enough."""
    part = text[max(start - within, 0) : start + 1]
    blank = max(part.rfind(each) for each in " \n\t")
    ahead = len(part[: blank + 1].rstrip())
    return start + 1 - len(part) + ahead if ahead else None
