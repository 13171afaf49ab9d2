"""What would decide it, in a sentence."""

from __future__ import annotations

from twinweave.analysis.lift.needed import REACH
from twinweave.analysis.lift.results import Needed


def needed_text(found: Needed) -> str:
    if found.users is None or found.times is None:
        more = "at this epsilon not even a thousand times the users would"
    else:
        users = f"about {float(f'{found.users:.2g}'):,.0f} users in the two arms"
        more = f"at this epsilon {users} would, {found.times:.1f} times as many"
    if found.sampling_alone:
        return f"no epsilon would, sampling alone hides it; {more}."
    if found.epsilon is None:
        return f"no epsilon up to {REACH:g} would with these users; {more}."
    return f"about epsilon {found.epsilon:.2g} would with these users; {more}."
