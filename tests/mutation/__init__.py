"""Files that are changed at random, and readers that must refuse them by name or read what they then say.

`values` and `content` change files; `readers` reads those of a run, `adapters` and `rows` those that others make;
`registry` lists the readers; `judging` reads within bounds of time and memory and says what became of each file.
"""
