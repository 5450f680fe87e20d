"""The schemas of docs/json.md."""

import json
import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "json.md"


def schemas() -> dict[str, Any]:
    """By command, as in headings, its schema."""
    found: dict[str, Any] = {}
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        heading = section.partition("\n")[0]
        block = re.search(r"```json\n(.*?)```", section, re.DOTALL)
        assert block is not None, heading
        found |= dict.fromkeys(re.findall(r"`layerlens (.*?)`", heading), json.loads(block[1]))
    return found
