"""The words that the tiny tokenizers know. Apart from the models, so that rows of text need no torch."""

WORDS = (
    "the", "a", "red", "green", "old", "new", "small", "large", "cat", "dog", "bird", "tree", "house", "river", "sees",
    "finds", "likes", "wants", "keeps", "loses", "and", "or", "but", "then", "now", "here", "there", "slowly",
)  # fmt: skip
