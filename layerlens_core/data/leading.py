"""The part of a long text that its first, or last, tokens come from, so that a text of 50 MB is not encoded whole."""

from transformers import PreTrainedTokenizerBase

#: Characters a token for which texts are encoded whole, and from which on the search begins.
_SHORT = 64
#: Characters for each wanted token that are tried first. Words are shorter in all languages.
_FIRST = 16


def leading(text: str, tokenizer: PreTrainedTokenizerBase, tokens: int, *, special: bool = True) -> str:
    """A beginning of the text, or all of it, whose first ``tokens`` tokens are those of the whole text.

    text: of any length.
    tokenizer: of the model.
    tokens: how many are wanted.
    special: whether special tokens are added to texts.

    Tokens depend on what is near: those of one beginning are taken where it gives twice as many as are wanted, and
    where a beginning half as long has the same ones. One that gives too few is doubled, in the end to the whole text.
    """
    if len(text) <= _SHORT * (tokens + 16):
        return text
    length, before = _FIRST * (tokens + 16), None
    while length < len(text):
        found = _tokens(text[:length], tokenizer, special)
        if len(found) >= 2 * (tokens + 16):
            if before == found[:tokens]:
                return text[:length]
            before = found[:tokens]
        else:
            before = None
        length *= 2
    return text


def trailing(text: str, tokenizer: PreTrainedTokenizerBase, tokens: int, *, special: bool = True) -> str:
    """An end of the text, or all of it, whose last ``tokens`` tokens are those of the whole text.

    text: of any length.
    tokenizer: of the model.
    tokens: how many are wanted.
    special: as in `leading`.

    As `leading`, but an end begins where a word does: tokens are found from the left, so that those of a part that
    begins inside a word may stay others however long it is.
    """
    if len(text) <= _SHORT * (tokens + 16):
        return text
    length, before = _FIRST * (tokens + 16), None
    while (start := _word_before(text, len(text) - length)) > 0:
        found = _tokens(text[start:], tokenizer, special)
        if len(found) >= 2 * (tokens + 16):
            if before == found[-tokens:]:
                return text[start:]
            before = found[-tokens:]
        else:
            before = None
        length = 2 * (len(text) - start)
    return text


def _tokens(text: str, tokenizer: PreTrainedTokenizerBase, special: bool) -> list[int]:
    # Not verbose: it would warn of texts that are longer than the model takes.
    found: list[int] = tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
    return found


def _word_before(text: str, start: int) -> int:
    """The last place up to ``start`` where a blank follows something else; 0 where there is none."""
    blank = max(text.rfind(each, 0, max(start, 0) + 1) for each in " \n\t")
    return len(text[: blank + 1].rstrip())
