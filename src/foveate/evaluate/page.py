"""Parts of a report's HTML page: one file that opens anywhere, without a network, on a phone as on a desk.

Owns the style and the pieces that every report uses. Knows no run and no task. Every piece takes plain values and
escapes them; only `document` and `details` take pieces that are HTML already.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence

from PIL import Image

# Blue and orange, which colour-blind readers tell apart; a word always says the same beside the colour. Where a table
# is wider than the page a shadow lies at that edge: covers that scroll with the table hide it at the table's end.
STYLE = """
:root { color-scheme: light; --right: #0b4f8a; --wrong: #a33c00; --other: #6b6b6b; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b;
  background: #fff; overflow-wrap: break-word; }
h2 { margin-top: 2.5rem; } figure { margin: 1rem 0; } img { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th { position: sticky; top: 0; background: #f4f4f4; } th:first-child, td:first-child { text-align: left; }
td.words { text-align: left; white-space: normal; }
.scroll { overflow-x: auto; background:
  no-repeat local left / 2rem calc(100% + 2px) linear-gradient(90deg, #fff 50%, #fff0),
  no-repeat local right / 2rem calc(100% + 2px) linear-gradient(-90deg, #fff 50%, #fff0),
  no-repeat scroll left / 1rem 100% linear-gradient(90deg, #0003, #0000),
  no-repeat scroll right / 1rem 100% linear-gradient(-90deg, #0003, #0000); }
.exhibit { display: flex; flex-wrap: wrap; gap: 1rem; } .exhibit figure { width: 264px; margin: .5rem 0; }
.right { color: var(--right); } .wrong { color: var(--wrong); }
footer { margin-top: 3rem; font-size: 13px; color: #555; }
summary { cursor: pointer; }
"""
THUMBNAIL = 264


def text(value: object) -> str:
    """Escaped for any place in a page."""
    return html.escape(str(value))


def paragraph(words: object) -> str:
    """Text of its own."""
    return f"<p>{text(words)}</p>"


def table(header: Sequence[object], rows: Iterable[Sequence[object]], *, words: bool = False) -> str:
    """A table that scrolls sideways on its own where the page is narrow; `words` for cells of running text."""
    kind = ' class="words"' if words else ""
    head = "".join(f"<th>{text(cell)}</th>" for cell in header)
    lines = ["".join(f"<td{kind}>{cell_html(cell)}</td>" for cell in row) for row in rows]
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


class Markup(str):
    """A cell that is HTML already."""

    __slots__ = ()


def cell_html(cell: object) -> str:
    """What stands in a cell: markup as it is, all else escaped."""
    return str(cell) if isinstance(cell, Markup) else text(cell)


def data_uri(data: bytes, kind: str) -> str:
    """A picture within the page."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def figure(png: bytes, description: str) -> str:
    """A picture, with what it shows for those who do not see it."""
    return f'<figure><img src="{data_uri(png, "png")}" alt="{text(description)}"></figure>'


def photograph(picture: Image.Image, description: str, *, width: int = THUMBNAIL) -> str:
    """A picture at most so many pixels wide, as a JPEG: for looking at, not for measuring."""
    shown = picture.convert("RGB")
    shown.thumbnail((width, 2 * width), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    shown.save(buffer, format="JPEG", quality=85)
    return f'<img src="{data_uri(buffer.getvalue(), "jpeg")}" alt="{text(description)}">'


def details(title: str, parts: Iterable[str], *, open_: bool = False) -> str:
    """Pieces that are shown when their title is clicked."""
    return f"<details{' open' if open_ else ''}><summary>{text(title)}</summary>{''.join(parts)}</details>"


def interval_bar(value: float, low: float, high: float, *, width: int = 160) -> Markup:
    """Shares from 0 to 1 as a line with its interval and a dot at the value; quarters are ticked."""

    def place(share: float) -> str:
        return f"{4 + min(1.0, max(0.0, share)) * (width - 8):.1f}"

    ticks = "".join(f'<path d="M{place(quarter / 4)} 2v12" stroke="#ddd"/>' for quarter in range(5))
    said = f"{100 * value:.1f} %, {100 * low:.1f} to {100 * high:.1f}"
    return Markup(
        f'<svg width="{width}" height="16" role="img" aria-label="{said}">{ticks}'
        f'<path d="M{place(low)} 8H{place(high)}" stroke="#0b4f8a" stroke-width="3" stroke-opacity=".45"/>'
        f'<circle cx="{place(value)}" cy="8" r="3.5" fill="#0b4f8a"/></svg>'
    )


def difference_bar(value: float, low: float, high: float, *, clear: bool, width: int = 220) -> Markup:
    """A difference of shares with its interval about a line at none; blue where it is `clear`, else grey."""

    def place(share: float) -> str:
        return f"{width / 2 + max(-1.0, min(1.0, share)) * (width / 2 - 4):.1f}"

    colour = "#0072b2" if clear else "#8a8a8a"
    said = f"{100 * value:+.1f} points, {100 * low:.1f} to {100 * high:.1f}"
    return Markup(
        f'<svg width="{width}" height="16" role="img" aria-label="{said}">'
        f'<path d="M{place(0)} 1v14" stroke="#1b1b1b"/>'
        f'<path d="M{place(low)} 8H{place(high)}" stroke="{colour}" stroke-width="3" stroke-opacity=".5"/>'
        f'<circle cx="{place(value)}" cy="8" r="3.5" fill="{colour}"/></svg>'
    )


def share_bar(shares: Sequence[tuple[str, float, str]], *, width: int = 160) -> Markup:
    """Parts of a whole side by side, each (name, share, colour); read aloud it says them in percent."""
    said = ", ".join(f"{name} {100 * share:.0f} %" for name, share, _ in shares)
    left, parts = 0.0, []
    for _, share, colour in shares:
        parts.append(
            f'<rect x="{left:.1f}" width="{width * share:.1f}" height="12" fill="{colour}" stroke="#fff"/>'
        )
        left += width * share
    return Markup(
        f'<svg width="{width}" height="12" role="img" aria-label="{text(said)}"><title>{text(said)}</title>'
        f"{''.join(parts)}</svg>"
    )


def shaded(value: object, share: float) -> str:
    """A table cell that is bluer the larger its share; the number stands in it."""
    mixed = "".join(f"{round(255 + share * (one - 255)):02x}" for one in (90, 150, 210))
    return f'<td style="background:#{mixed}">{text(value)}</td>'


def document(title: str, parts: Iterable[str], *, style: str = "") -> str:
    """The whole page."""
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )
