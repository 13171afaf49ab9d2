"""A party's folder, as its own page is drawn from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twinweave.analysis.anonymity import Anonymity, Diversity
from twinweave.parsing import parse, to_plain
from twinweave.privacy.events import DiscreteGaussian, Event, Stage
from twinweave.privacy.guard import Guard, Limit
from twinweave.site import PARTY_LOG, Site

DESCRIBED = Anonymity(
    quasi_identifiers=("age", "region"),
    rows=90,
    classes=12,
    k=2,
    wanted=5,
    below=7,
    diversity=(Diversity(column="loyal", l=2, entropy_l=1.9, t=0.31),),
)

LOG = """2026-01-01 10:00:00 cleaning: 90 rows read, 80 kept
2026-01-02 10:00:00 cleaning: 100 rows read, 97 kept
2026-01-02 10:00:00 cleaning: age: invalid: clip x 33
2026-01-02 10:00:00 WARNING cleaning: age: 33% of the cells fall under `clip`.
"""


def described(folder: Path) -> dict[str, Any]:
    """Its site file."""
    return {
        "party": "shop",
        "dataset": "customers",
        "columns": [{"name": "user", "kind": "categorical", "role": "key"}],
        "source": {"kind": "csv", "path": "nowhere.csv"},
        "identity": str(folder / "identity.pem"),
        "pins": {},
        "guard": {"mode": "on", "path": None, "epsilon": 4.0, "delta": 1e-5},
        "work": str(folder / "shop"),
    }


def spend(site: Site, party: str, run: str, noise: float) -> None:
    event = Event(
        label="t",
        stage=Stage.MEASUREMENT,
        parties=(party,),
        mechanism=DiscreteGaussian(noise_multiplier=noise),
    )
    Guard.open(site.guard, party=party, dataset=site.dataset, folder=site.work).spend(
        fingerprint="f",
        run=run,
        phase="query.share",
        request_hash="h",
        events=[event],
        run_limit=Limit(epsilon=4.0, delta=1e-5),
    )


def kept(folder: Path) -> Site:
    """A site with runs of its own and of another party, a log, and an audit."""
    site = parse(Site, described(folder))
    work = Path(site.work)
    spend(site, "shop", "aaaaaaaaaaaa", 20.0)
    spend(site, "shop", "bbbbbbbbbbbb", 21.5)
    spend(site, "elsewhere", "cccccccccccc", 22.0)
    (work / PARTY_LOG).write_text(LOG)
    found = {
        "run": "bbbbbbbbbbbb",
        "rows": {"used": 90, "set_aside": 10, "synthetic": 90},
        "attacks": [],
        "not_attacked": ["Linkability was not played."],
        "closest_record": {"used": 1.25, "aside": 1.5, "area": 0.6},
        "anonymity": {"own rows": to_plain(DESCRIBED)},
        "utility": [{"name": "told from real rows", "value": 0.55, "against": 0.5}],
        "gate": to_plain(
            {
                "state": "withheld",
                "reasons": [{"source": "shop", "what": "copies", "remedy": "Ask less"}],
            }
        ),
    }
    (work / "audit.json").write_text(json.dumps(found))
    return site
