"""What rows cost: one line of 50 MB that is cut to 256 tokens, and a file of many lines, in time and memory.

    python tests/benchmarks/long_rows.py [--tokenizer DIRECTORY] [--megabytes 50] [--lines 2000000]

Every arm runs in a process of its own, so that its peak memory is its own; that of the imports alone stands beside.
``whole`` encodes the text as it is, as was done before it was cut.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MAX_LENGTH = 256
WORDS = ("the", "red", "cat", "sees", "a", "small", "dog", "and", "finds", "trees", "2026", "naïve", "don't", "x=1;")


def tokenizer_of(directory: str | None) -> Any:
    """The tokenizer in a directory, or a byte-level one that is trained here."""
    import transformers

    if directory is not None:
        return transformers.AutoTokenizer.from_pretrained(directory)
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    made.train_from_iterator([" ".join(WORDS)] * 50, trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="the")


def imports_alone(_path: Path, _tokenizer: Any) -> int:
    """Nothing but what the others import."""
    from layerlens_core.data import encode  # noqa: F401

    return 0


def whole(path: Path, tokenizer: Any) -> int:
    """Encode the first row's text as it is."""
    text = json.loads(path.open(encoding="utf-8").readline())["text"]
    return len(tokenizer(text, truncation=True, max_length=MAX_LENGTH)["input_ids"])


def cut(path: Path, tokenizer: Any) -> int:
    """One sample of the file, as the command line draws it."""
    return _drawn(path, tokenizer, 1)


def lines(path: Path, tokenizer: Any) -> int:
    """128 samples of the file, as the command line draws them."""
    return _drawn(path, tokenizer, 128)


def listed(path: Path, _tokenizer: Any) -> int:
    """All rows of the file in memory at once, as was done before they were streamed."""
    return len([json.loads(line) for line in path.open(encoding="utf-8")])


def _drawn(path: Path, tokenizer: Any, most: int) -> int:
    from layerlens_core.data.draw import Draw, survey
    from layerlens_core.data.encode import Encoder
    from layerlens_core.data.rows import open_rows

    rows = open_rows(path)
    found = survey(rows)
    encoder = Encoder(fields=found.fields, tokenizer=tokenizer, task="causal-lm", max_length=MAX_LENGTH)
    return sum(1 for _ in Draw(rows=rows, survey=found, encoder=encoder, seed=0, most=most))


ARMS = {"imports": imports_alone, "whole": whole, "cut": cut, "listed": listed, "lines": lines}


def measured(arm: str, path: Path, tokenizer: str | None) -> None:
    """Run one arm in this process, and print its figures."""
    made = tokenizer_of(tokenizer)
    started = time.process_time()
    ARMS[arm](path, made)
    seconds = time.process_time() - started
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokenizer")
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--lines", type=int, default=2_000_000)
    parser.add_argument("--without-whole", action="store_true", help="which takes 8 GB")
    parser.add_argument("--arm", choices=ARMS)
    parser.add_argument("--path", type=Path)
    given = parser.parse_args()
    if given.arm:
        measured(given.arm, given.path, given.tokenizer)
        return
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as place:
        long, many = Path(place) / "long.jsonl", Path(place) / "many.jsonl"
        text = " ".join(draw.choices(WORDS, k=given.megabytes * 10**6 // 4))[: given.megabytes * 10**6]
        long.write_text(json.dumps({"text": text}, ensure_ascii=False) + "\n", encoding="utf-8")
        with many.open("w", encoding="utf-8") as file:
            for number in range(given.lines):
                file.write(json.dumps({"text": " ".join(draw.choices(WORDS, k=12)), "id": number}) + "\n")
        print(f"one line of {given.megabytes} MB, and {given.lines:,} lines ({many.stat().st_size / 1e6:.0f} MB)")
        print("| arm | processor seconds | peak MB |\n|---|---|---|")
        for arm, path in (("imports", long), ("whole", long), ("cut", long), ("listed", many), ("lines", many)):
            if arm == "whole" and given.without_whole:
                continue
            command = [sys.executable, __file__, "--arm", arm, "--path", str(path)]
            command += ["--tokenizer", given.tokenizer] if given.tokenizer else []
            result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode:
                print(f"| {arm} | ended with {result.returncode}: {result.stderr.strip().splitlines()[-1:]} | |")
                continue
            seconds, peak = json.loads(result.stdout.splitlines()[-1])
            print(f"| {arm} | {seconds:.1f} | {peak:,.0f} |")


if __name__ == "__main__":
    main()
