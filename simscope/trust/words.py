"""Figures of a trust report as words and tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simscope.show import Table
from simscope.show.trust import axis_words
from simscope.trust.status import is_tested


def verdict_row(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """A claim as words: sentence, figure, limit, status."""
    sign = "≥" if row["relation"] == "at least" else "≤"
    unit = f" {row['unit']}" if row["unit"] else ""
    limit = f"{sign} {row['limit']:g}{unit}"
    if not is_tested(row):
        return f"{row['claim']}\n({row['reason']})", "–", limit, "not tested"
    return row["claim"], shown(row, unit=unit), limit, row["status"]


def shown(one: Mapping[str, Any], digits: int | None = None, unit: str = "") -> str:
    """A figure and its interval in words; a dash for none."""
    if one["value"] is None:
        return "–"
    words = number_words(one["value"], digits) + unit
    if one.get("low") is None or one.get("high") is None:
        return words
    return f"{words} ({number_words(one['low'], digits)} to {number_words(one['high'], digits)})"


def number_words(value: float, digits: int | None = None) -> str:
    """A number with so many digits after the point, or three in all, and a true minus sign."""
    words = f"{value:.3g}" if digits is None else f"{value:.{digits}f}"
    return words.replace("-", "−")


def two_lines(one: Mapping[str, Any], digits: int | None = None) -> str:
    """As :func:`shown`, with the interval below the figure, for cells of tables."""
    return shown(one, digits).replace(" (", "\n", 1).removesuffix(")")


def bound_row(name: str, one: Mapping[str, Any]) -> tuple[str, ...]:
    """A row of the table beside the bound: name, RMS error, bound, ratio, bias over bound."""
    bias = two_lines(one["bias"], 2) if "bias" in one else "–"
    return (name, *(two_lines(one[part], 2) for part in ("rmse", "bound", "ratio")), bias)


def metric_table(
    rows: Mapping[str, Mapping[str, Any]], report: Mapping[str, Any], first: str, caption: str = ""
) -> Table:
    """Figures of every metric with intervals, a row each."""
    metrics = report["metrics"]
    headers = [first, *(axis_words(reading) for reading in metrics.values())]
    lines = []
    for name, row in rows.items():
        if not is_tested(row):
            lines.append([f"{name}: not tested, {row['reason']}", *["–"] * len(metrics)])
            continue
        cells = [two_lines(row[m], reading["digits"]) if m in row else "–"
                 for m, reading in metrics.items()]  # fmt: skip
        lines.append([name, *cells])
    return Table(headers, lines, caption)


def few_metrics(report: Mapping[str, Any], count: int = 3) -> dict[str, Any]:
    """The most telling metrics, as many as fit side by side."""
    return dict(list(report["metrics"].items())[:count])


def range_end(value: float) -> str:
    """An end of a bin: whole from a thousand on."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def or_dash(value: float | None) -> str:
    """A number in words, a dash for none."""
    return "–" if value is None else number_words(value)
