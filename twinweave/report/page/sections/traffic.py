"""How long each phase took, and how much went between server and parties."""

from __future__ import annotations

from twinweave.parsing import parse
from twinweave.report.contents import PhaseTraffic
from twinweave.report.page.charts.bars import Length, Lengths, lengths
from twinweave.report.page.charts.tables import NUMBER, TEXT, table
from twinweave.report.page.html import render
from twinweave.report.page.material import Material
from twinweave.report.page.section import Section

_TEMPLATE = """
{{ figure }}
{{ table }}
<p class="small">Bytes are those of the messages' contents. A run that was cut short and went on
counts from where it went on.</p>
"""

_DONE = {
    "query.setup": "agree on what is asked",
    "query.blind": "blind the ids",
    "query.match": "match blinded ids",
    "query.share": "first tables; masked rows for the peer",
    "query.agree": "agree on the second pass",
    "query.open": "open the tables across parties",
    "train.generator": "train the generator",
    "train.reveal": "open the sum of updates",
    "evaluate.synthetic": "audit the synthetic rows",
}

_HEADS = (
    ("Phase", TEXT),
    ("What it is for", TEXT),
    ("Requests", NUMBER),
    ("Answers", NUMBER),
    ("To parties", NUMBER),
    ("From parties", NUMBER),
)


def section(m: Material) -> Section | None:
    found = [parse(PhaseTraffic, one) for one in m.report["traffic"]]
    if not found:
        return None
    rows = [Length(name=p.phase, value=p.seconds, text=f"{p.seconds:.1f} s") for p in found]
    if (total := m.report["seconds"]) is not None:
        own = max(total - sum(p.seconds for p in found), 0.0)
        name = "the server's own work"
        rows.append(Length(name=name, value=own, text=f"{own:.1f} s", tone="muted"))
    figure = lengths(
        Lengths(
            caption="Seconds that the server waited for the parties, phase by phase, and what it "
            "spent on its own: fit, raking, analysis.",
            rows=rows,
        )
    )
    body = render(_TEMPLATE, figure=figure, table=table(_HEADS, [_row(p) for p in found]))
    return Section(name="traffic", title="Time and traffic", short="Time and traffic", body=body)


def _row(p: PhaseTraffic) -> tuple[str, ...]:
    sizes = size_text(p.bytes_sent), size_text(p.bytes_received)
    return p.phase, _DONE.get(p.phase, ""), f"{p.requests:,}", f"{p.answers:,}", *sizes


def size_text(n: int) -> str:
    """In kB or MB of a thousand."""
    return f"{n / 1e6:,.1f} MB" if n >= 1e6 else f"{n / 1e3:,.1f} kB"
