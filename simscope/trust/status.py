"""Whether something was measured: what was not is said, with the reason, never left out."""

from __future__ import annotations

from typing import Any

MEASURED, NOT_TESTED = "measured", "not_tested"


def measured(values: dict[str, Any]) -> dict[str, Any]:
    """A section with its figures."""
    return {"status": MEASURED} | values


def not_tested(reason: str) -> dict[str, Any]:
    """What stands in a report where there is no figure."""
    return {"status": NOT_TESTED, "reason": reason}


def is_tested(entry: Any) -> bool:
    """Whether an entry of a report has figures."""
    return not (isinstance(entry, dict) and entry.get("status") == NOT_TESTED)
