"""A party's step at a run's beginning: accept the specification or refuse it, announce a key."""

from __future__ import annotations

import os

from twinweave.errors import ProtocolError, SchemaError
from twinweave.generators.union import UnionLayout
from twinweave.parsing import canonical_json
from twinweave.protocols.channel.messages import SetupReply, SetupRequest
from twinweave.protocols.party import Introduced, Joined, Party, read_rows, tell_cleaning
from twinweave.protocols.products.kinds import check_installed
from twinweave.protocols.secure_sum.updates import sums_of
from twinweave.site import Site
from twinweave.spec import RunSpec


def setup(request: SetupRequest, site: Site) -> tuple[SetupReply, Joined]:
    """Check the specification against the own schema, pools, table and budget; sign a key.

    Raises SchemaError, ConfigError, ProtocolError or BudgetError: a specification that this
    party does not accept whole is refused before anything else happens.
    """
    from twinweave.tables.encoding import contents

    spec = RunSpec.loads(request.spec)
    if spec.run != request.run:
        raise ProtocolError("the specification is of another run. Start a new run.")
    site.check_budget(spec.epsilon, spec.delta)
    check_schema(spec, site)
    check_installed(spec.cross_tables)
    spec.tables.check()
    if spec.audit is not None:
        site.check_audit(spec.audit)
    if spec.training is not None:
        sums_of(spec)
        site.check_unsafe(spec.training.unsafe)
        site.placed(spec.training.generator).check(UnionLayout.of(spec.schema))
    rows = read_rows(site, spec.run, spec.holdout)
    tell_cleaning(site, spec.run)
    joined = Joined(
        run=request.run,
        spec=spec.dumps(),
        secret=os.urandom(32),
        rows=len(rows.used),
        fingerprint=rows.fingerprint,
        contents=contents(rows.used),
    )
    party = Party(site, Introduced(joined=joined, hellos={}))
    own = [*spec.tables.events(party.name), *spec.later, *spec.evaluation(party.name)]
    party.foresee(own, [*spec.tables.events(), *spec.later, *spec.evaluation()])
    party.guard.watch(joined.fingerprint)
    return SetupReply(hello=party.hello.dumps(), guard=site.guard.mode), joined


def check_schema(spec: RunSpec, site: Site) -> None:
    """Raise SchemaError unless the run's schema of this party is the party's own, pools too."""
    proposed = spec.schema.schema(site.party)
    agreed = {frozenset(pool) for pool in site.pools}
    if any(site.party in pool and frozenset(pool) not in agreed for pool in spec.pools):
        raise SchemaError(
            "the run pools this party with others that its site file does not name. "
            "Agree on `pools` with them first."
        )
    if canonical_json(proposed) == canonical_json(site.schema):
        return
    for mine in site.schema.columns:
        if mine.name not in {c.name for c in proposed.columns}:
            raise SchemaError(f"column {mine.name!r}: not in the run's schema. Agree on one.")
        if mine != proposed.column(mine.name):
            raise SchemaError(
                f"column {mine.name!r}: the run's schema and this party's own disagree. "
                "Agree on levels, bounds, bins and rules."
            )
    raise SchemaError("the run's schema and this party's own differ in columns. Agree on one.")
