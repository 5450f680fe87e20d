"""One class after the other, each in a process of its own: one that hangs or crashes is recorded, and ends nothing."""

import multiprocessing
from multiprocessing.connection import Connection
from typing import Any

import torch

import layerlens_core as ll
import zoo
from sweep.compare import Result, swept

#: Seconds for one class, all patterns.
LIMIT = 120.0


def warm() -> None:
    """Imports what every profile imports on its first use, so that no process has to do it again."""
    ids = torch.arange(8, 16)[None]
    ll.profile(zoo.build("llama"), [{"input_ids": ids, "attention_mask": torch.ones_like(ids)}] * 2, metrics=["fisher"])


def alone(task: str, name: str, limit: float = LIMIT) -> list[dict[str, Any]]:
    """The results of a class, as mappings; ``timeout`` and ``crash`` are statuses too."""
    context = multiprocessing.get_context("fork")  # with everything imported already
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sending, task, name), daemon=True)
    process.start()
    sending.close()
    try:
        if receiving.poll(limit):
            found: list[dict[str, Any]] = receiving.recv()
            return found
        return [Result(task, name, "", status="timeout", error=f"not done in {limit:.0f} s").asdict()]
    except EOFError:
        process.join()
        return [Result(task, name, "", status="crash", error=f"exit code {process.exitcode}").asdict()]
    finally:
        process.kill()
        process.join()


def _work(sending: Connection, task: str, name: str) -> None:
    sending.send([result.asdict() for result in swept(task, name)])
