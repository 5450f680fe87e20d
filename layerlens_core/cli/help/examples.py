"""Examples below the help of every command, and of ``layerlens`` itself: how to complete its words in a shell."""

import click

EXAMPLES = {
    "demo": ("layerlens demo --budget params=100k --out runs/demo",),
    "estimate": (
        "layerlens estimate path/to/model",
        "layerlens estimate path/to/model --budget memory=24GiB --batch-size 2 --length 1024 --checkpointing",
    ),
    "plan": (
        "layerlens plan path/to/model --data train.jsonl --budget params=r=8 --out runs/first",
        "layerlens plan path/to/model --data train.jsonl --budget memory=24GiB --budget params=r=64 --max-rank 256 "
        "--out runs/large",
    ),
    "profile": ("layerlens profile path/to/model --data train.jsonl --samples auto --out runs/first",),
    "allocate": (
        "layerlens allocate runs/first --budget params=50k",
        "layerlens allocate runs/first --budget params=r=4 --min-rank 2 --out runs/second",
    ),
    "explain": ("layerlens explain runs/first", "layerlens explain runs/first 3"),
    "report": ("layerlens report runs/first --out report.html",),
    "audit": ("layerlens audit runs/first",),
    "diff": ("layerlens diff runs/first runs/second",),
    "compare": (
        "layerlens compare runs/first --model path/to/model --data train.jsonl --eval test.jsonl --budgets r=2,4,8",
    ),
    "apply": (
        "layerlens apply runs/first --out adapter",
        "layerlens apply runs/first --model path/to/model --init gradient --out adapter",
    ),
    "export": ("layerlens export runs/first --to axolotl --out adapter",),
    "plugins": ("layerlens plugins", "layerlens plugins new own-metric --kind metric"),
    "new": ("layerlens plugins new own-metric --kind metric",),
    "scenarios": ("layerlens scenarios --strategy tempered --strategy uniform",),
}
#: Of the group itself.
COMPLETION = (
    'eval "$(_LAYERLENS_COMPLETE=bash_source layerlens)"',
    'eval "$(_LAYERLENS_COMPLETE=zsh_source layerlens)"',
    "_LAYERLENS_COMPLETE=fish_source layerlens | source",
)


def add_examples(command: click.Command) -> None:
    """Give a command its examples; one that has none is left as it is."""
    if command.name in EXAMPLES:
        command.epilog = _block("Examples" if len(EXAMPLES[command.name]) > 1 else "Example", EXAMPLES[command.name])


def add_completion(group: click.Group) -> None:
    """Tell how a shell learns to complete commands and options, in bash, zsh and fish."""
    group.epilog = _block("To complete words in bash, zsh or fish, one of", COMPLETION)


def _block(title: str, lines: tuple[str, ...]) -> str:
    """Lines that are not filled up, as they are to be copied; long ones go on behind a backslash."""
    return "\b\n" + "\n".join([f"{title}:", *(f"  {part}" for line in lines for part in _folded(line))])


def _folded(line: str, width: int = 74) -> list[str]:
    found = [""]
    for word in line.split(" --") if len(line) > width else [line]:
        text = word if found == [""] else f"--{word}"
        if len(found[-1]) + len(text) + 3 > width:
            found[-1] += " \\"
            found.append(f"    {text}")
        else:
            found[-1] += f" {text}" if found[-1] else text
    return found
