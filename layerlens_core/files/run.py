"""Which files a run's directory holds."""

from pathlib import Path

#: What was measured (`layerlens_core.values.profile`).
PROFILE = "profile.json"
#: Singular vectors, beside the profile (`layerlens_core.files.directions`).
DIRECTIONS = "directions.safetensors"
#: The state of a profile that is not complete (`layerlens_core.profiling.engine.checkpoint`).
CHECKPOINT = "profile.partial"
#: What was decided (`layerlens_core.values.plan`).
PLAN = "plan.json"
#: How each decision came about (`layerlens_core.tracing`).
TRACE = "trace.jsonl"

#: Those that a complete run may hold.
FILES = (PROFILE, DIRECTIONS, PLAN, TRACE)


def checkpoints(run: str | Path) -> list[Path]:
    """The files of a profile that is not complete, one a process, by name."""
    return sorted(Path(run).glob(f"{CHECKPOINT}*"))
