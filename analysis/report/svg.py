"""Figures as files, and as SVG that a page can hold: no ids twice, colours that follow light and dark."""

import io
import re

import matplotlib
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from analysis.report.figures import STYLE, THEME

_DPI = 160
_VARIABLES = {colour.lower(): name for name, colour in THEME.items()}


def images(figure: Figure) -> dict[str, bytes]:
    """The figure as ``svg`` and ``png``, the same bytes each time."""
    svg, png = io.BytesIO(), io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(svg, format="svg", dpi=_DPI, metadata={"Date": None, "Creator": None})
        figure.set_layout_engine("none")  # keeps the layout, which takes as long as drawing
        figure.savefig(png, format="png", dpi=_DPI, metadata={"Software": None})
    return {"svg": svg.getvalue(), "png": png.getvalue()}


def inline(svg: bytes, slug: str, title: str, description: str) -> Markup:
    """An SVG file's drawing for a page, named for screen readers."""
    text = svg.decode()
    body = text[text.index(">", text.index("<svg")) + 1 :]
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text).groups()  # type: ignore[union-attr]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, count=1, flags=re.DOTALL)
    body = re.sub(r"<defs>\s*<style.*?</defs>", "", body, count=1, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{slug}-", body)
    body = re.sub(r"(font: [^;\"]*?px) [^;\"]*", r"\1 var(--font)", body)
    body = re.sub(r"#[0-9a-f]{6}\b", lambda found: _themed(found[0]), body)
    body = re.sub(r"\n\s*", "\n", body)
    head = (
        f'<svg role="img" viewBox="0 0 {width} {height}" aria-labelledby="{slug}-title {slug}-desc">'
        f'<title id="{slug}-title">{escape(title)}</title><desc id="{slug}-desc">{escape(description)}</desc>'
    )
    return Markup(head + body)


def _themed(colour: str) -> str:
    return f"var(--{_VARIABLES[colour]})" if colour in _VARIABLES else colour
