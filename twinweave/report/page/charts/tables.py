"""A table of words and numbers that on a narrow page becomes a list of its rows."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from twinweave.report.page.html import render

_TEMPLATE = """
<div class="scroll"><table class="rows{{ ' ' + kind if kind else '' }}"><thead><tr>
{% for head, style in heads %}
<th scope="col"{% if style %} class="{{ style }}"{% endif %}>{{ head }}</th>
{% endfor %}
</tr></thead><tbody>
{% for row in rows %}
<tr><th scope="row">{{ row[0]|figures }}</th>
{%- for cell in row[1:] %}
{% set head, style = heads[loop.index] %}
<td data-head="{{ head }}"{% if style %} class="{{ style }}"{% endif %}>{{ cell|figures }}</td>
{%- endfor %}
</tr>
{% endfor %}
</tbody></table></div>
"""

TEXT, NUMBER, STRONG = "", "n", "n est"
"""How a column is set."""


def table(
    heads: Sequence[tuple[str, str]], rows: Sequence[Sequence[str | Markup]], kind: str = ""
) -> Markup:
    """heads: (name, TEXT, NUMBER or STRONG) of every column; the first names the rows."""
    return render(_TEMPLATE, heads=heads, rows=rows, kind=kind)
