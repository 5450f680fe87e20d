"""The one pass: what it gathers, in which pieces, where the numbers go, when it stops, and how it is resumed."""
