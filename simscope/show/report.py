"""A report as one HTML file: text, tables and pictures inside, nothing fetched from elsewhere."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from simscope.show.style import png_bytes, write_new

PIXELS_PER_INCH = 104
"""Of pictures on the page, so that their letters are all of one size."""


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    words: str

    def to_html(self) -> str:
        """The paragraph as HTML."""
        return f"<p>{html.escape(self.words)}</p>"


@dataclass(frozen=True)
class Code:
    """Text shown as it stands, such as a recipe; folded away under a title if given."""

    words: str
    fold: str | None = None

    def to_html(self) -> str:
        """The text as HTML."""
        block = f"<pre>{html.escape(self.words)}</pre>"
        if self.fold is None:
            return block
        return f"<details><summary>{html.escape(self.fold)}</summary>{block}</details>"


@dataclass(frozen=True)
class Table:
    """Rows of text under headers; numbers should come formatted."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""

    def to_html(self) -> str:
        """The table as HTML."""
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.headers)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self.rows
        )
        caption = f"<caption>{html.escape(self.caption)}</caption>" if self.caption else ""
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


@dataclass(frozen=True)
class Picture:
    """A figure with a caption that says what is seen."""

    figure: Figure
    caption: str

    def to_html(self) -> str:
        """The figure as an embedded PNG."""
        data = base64.b64encode(png_bytes(self.figure)).decode("ascii")
        caption = html.escape(self.caption)
        width = round(self.figure.get_figwidth() * PIXELS_PER_INCH)
        return (
            f'<figure><img alt="{caption}" width="{width}" src="data:image/png;base64,{data}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )


@dataclass(frozen=True)
class Points:
    """A list of sentences."""

    sentences: Sequence[str]

    def to_html(self) -> str:
        """The list as HTML."""
        points = "".join(f"<li>{html.escape(words)}</li>" for words in self.sentences)
        return f"<ul>{points}</ul>"


@dataclass(frozen=True)
class Missing:
    """Says that something was not done, and why."""

    reason: str

    def to_html(self) -> str:
        """The reason as HTML."""
        reason = html.escape(self.reason)
        return f'<p class="missing">{_badge("not tested")} {reason}</p>'


@dataclass(frozen=True)
class Verdicts:
    """Claims, one row each: sentence, figure, limit, and ``holds``, ``open``, ``fails`` or else."""

    rows: Sequence[tuple[str, str, str, str]]

    def to_html(self) -> str:
        """The table as HTML."""
        body = "".join(
            f"<tr><td>{html.escape(claim)}</td><td>{html.escape(figure)}</td>"
            f"<td>{html.escape(limit)}</td><td>{_badge(status)}</td></tr>"
            for claim, figure, limit, status in self.rows
        )
        head = "<th>claim</th><th>figure (95 % interval)</th><th>limit</th><th></th>"
        return (
            f'<table class="verdicts"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        )


@dataclass(frozen=True)
class Contents:
    """Links to sections by their titles."""

    titles: Sequence[str]

    def to_html(self) -> str:
        """The links as HTML."""
        links = " ".join(
            f'<a href="#{_anchor(title)}">{html.escape(title)}</a>' for title in self.titles
        )
        return f"<nav>{links}</nav>"


@dataclass(frozen=True)
class Folded:
    """Tables folded away under a title."""

    title: str
    tables: Sequence[Table]

    def to_html(self) -> str:
        """The tables as HTML."""
        inside = "".join(table.to_html() for table in self.tables)
        return f"<details><summary>{html.escape(self.title)}</summary>{inside}</details>"


def _badge(status: str) -> str:
    return f'<span class="badge {_anchor(status)}">{html.escape(status)}</span>'


def _anchor(title: str) -> str:
    return "".join(sign if sign.isalnum() else "-" for sign in title.lower())


Block = Text | Code | Table | Picture | Points | Missing | Verdicts | Contents | Folded


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: Sequence[Block]

    def to_html(self) -> str:
        """The section as HTML."""
        inside = "\n".join(block.to_html() for block in self.blocks)
        title = html.escape(self.title)
        return f'<section id="{_anchor(self.title)}"><h2>{title}</h2>\n{inside}</section>'


def write_report(
    path: str | os.PathLike[str],
    title: str,
    summary: str,
    sections: Sequence[Section],
    *,
    force: bool = False,
) -> Path:
    """Path of the HTML file written.

    Raises
    ------
    SimscopeError
        If the file exists (unless ``force``) or cannot be written.
    """
    body = "\n".join(section.to_html() for section in sections)
    page = _PAGE.format(
        title=html.escape(title), summary=html.escape(summary), style=_STYLE, body=body
    )
    return write_new(path, page.encode(), force=force)


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{title}</h1><p class="summary">{summary}</p></header>
<main>
{body}
</main>
</body>
</html>
"""

_STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1.5rem 4rem; color: #1f2933;
  background: #fff; font: 16px/1.55 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; padding-bottom: .3rem;
  border-bottom: 1px solid #d9e2ec; }
.summary { font-size: 1.05rem; color: #52606d; margin: 0; }
p { max-width: 46rem; }
figure { margin: 1.2rem 0; }
figure img { max-width: 100%; height: auto; display: block; }
figcaption, caption { color: #52606d; font-size: .88rem; margin-top: .4rem; max-width: 46rem; }
caption { text-align: left; margin: 0 0 .4rem; }
table { border-collapse: collapse; margin: 1.2rem 0; white-space: pre-line;
  font-variant-numeric: tabular-nums; }
th, td { padding: .35rem 1rem .35rem 0; text-align: right; }
th:first-child, td:first-child { text-align: left; }
th { font-weight: 600; font-size: .88rem; border-bottom: 1.5px solid #1f2933;
  vertical-align: bottom; }
tbody tr + tr td { border-top: 1px solid #e4e7eb; }
pre { background: #f5f7fa; padding: .9rem 1rem; overflow-x: auto; font-size: .82rem;
  line-height: 1.45; border-radius: 4px; }
summary { cursor: pointer; color: #0b6e99; }
nav { margin: 1.6rem 0 0; line-height: 2.1; }
nav a { color: #0b6e99; text-decoration: none; font-size: .88rem; margin-right: .35rem;
  padding: .15rem .55rem; background: #eef4f7; border-radius: 1rem; white-space: nowrap; }
.badge { font-size: .78rem; font-weight: 600; padding: .1rem .55rem; border-radius: 1rem;
  white-space: nowrap; background: #e4e7eb; color: #52606d; }
.badge.holds { background: #d9f2e3; color: #14683c; }
.badge.open { background: #fff1cc; color: #7a5200; }
.badge.fails { background: #fbdcd9; color: #96231a; }
.missing { color: #52606d; background: #f5f7fa; padding: .6rem .9rem; border-radius: 4px; }
.verdicts td:first-child { max-width: 30rem; }
.verdicts td:nth-child(2) { font-weight: 600; white-space: nowrap; }
.verdicts td:nth-child(3) { white-space: nowrap; color: #52606d; }
li { max-width: 46rem; margin: .3rem 0; }
"""
