"""The same scene as an SVG drawing: one element per object, so that code about pictures can be checked exactly."""

from __future__ import annotations

from xml.sax.saxutils import escape

from foveate.world.render import ink_on, second_shade
from foveate.world.scene import Scene, SceneObject
from foveate.world.vocabulary import COLOURS, RGB


def _hex(shade: RGB) -> str:
    return "#{:02x}{:02x}{:02x}".format(*shade)


def _text(text: str, x: float, y: float, height: float, shade: RGB, anchor: str = "middle") -> str:
    baseline = "central" if anchor == "middle" else "hanging"
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{height:.1f}" font-family="sans-serif" fill="{_hex(shade)}" '
        f'text-anchor="{anchor}" dominant-baseline="{baseline}">{escape(text)}</text>'
    )


def _object(item: SceneObject, size: int) -> str:
    points = " ".join(f"{x * size:.2f},{y * size:.2f}" for x, y in item.outline())
    fill = _hex(item.shade) if item.texture == "plain" else f"url(#pattern-{item.id})"
    body = (
        f'<polygon id="object-{item.id}" data-shape="{item.shape}" data-colour="{item.colour}" points="{points}" '
        f'fill="{fill}" fill-rule="evenodd"/>'
    )
    if item.text:
        body += _text(item.text, item.x * size, item.y * size, item.radius * size, ink_on(item.shade))
    return body


def _pattern(item: SceneObject, size: int) -> str:
    period = max(4, round(size * 0.048))
    second = _hex(second_shade(item.shade))
    inner = (
        f'<circle cx="{period / 2}" cy="{period / 2}" r="{0.33 * period:.2f}" fill="{second}"/>'
        if item.texture == "dotted"
        else f'<path d="M0 {period}L{period} 0" stroke="{second}" stroke-width="{0.35 * period:.2f}"/>'
    )
    return (
        f'<pattern id="pattern-{item.id}" width="{period}" height="{period}" patternUnits="userSpaceOnUse">'
        f'<rect width="{period}" height="{period}" fill="{_hex(item.shade)}"/>{inner}</pattern>'
    )


def to_svg(scene: Scene, size: int = 168) -> str:
    """An SVG document of the scene, `size` user units high. Background noise becomes its mean shade."""
    width = round(size * scene.aspect)
    parts = [f'<rect width="{width}" height="{size}" fill="{_hex(scene.background.shade)}"/>']
    parts += [
        f'<path d="M{"L".join(f"{x * size:.2f} {y * size:.2f}" for x, y in p.corners)}Z" fill="{_hex(p.shade)}"/>'
        for p in scene.patches
    ]
    patterns = "".join(_pattern(o, size) for o in scene.objects if o.texture != "plain")
    if patterns:
        parts.append(f"<defs>{patterns}</defs>")
    parts += [_object(item, size) for item in scene.far_to_near()]
    parts += [
        _text(t.text, t.x * size, t.y * size, t.height * size, t.shade, anchor="start") for t in scene.texts
    ]
    for table in scene.tables:
        for r, row in enumerate(table.rows):
            for c, cell in enumerate(row):
                x, y = (table.x + c * table.column_width) * size, (table.y + r * table.row_height) * size
                w, h = table.column_width * size, table.row_height * size
                parts.append(
                    f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" fill="none" stroke="#141414"/>'
                )
                parts.append(_text(cell, x + w / 2, y + h / 2, 0.62 * h, (20, 20, 20)))
    for chart in scene.charts:
        step, base = chart.width / len(chart.labels), (chart.y + chart.height) * size
        for i, value in enumerate(chart.values):
            left, height = (chart.x + step * (i + 0.2)) * size, chart.height * value / chart.maximum * size
            parts.append(
                f'<rect x="{left:.1f}" y="{base - height:.1f}" width="{0.6 * step * size:.1f}" height="{height:.1f}" '
                f'fill="{_hex(chart.shades[i])}" data-label="{chart.labels[i]}" data-value="{value}"/>'
            )
            parts.append(
                _text(
                    chart.labels[i], left + 0.3 * step * size, base + 0.06 * size, 0.08 * size, (20, 20, 20)
                )
            )
    style = scene.marker_style
    for marker in scene.markers:
        x, y, shade = marker.x * size, marker.y * size, COLOURS[style.colour]
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{style.radius * size:.1f}" fill="{_hex(shade)}"/>'
        )
        parts.append(_text(marker.label, x, y - (style.radius + 0.05) * size, style.font_size * size, shade))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{size}" viewBox="0 0 {width} {size}">'
        + "".join(parts)
        + "</svg>\n"
    )
