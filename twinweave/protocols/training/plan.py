"""The terms of a run's federated training: every party's private steps, and its weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ProtocolError
from twinweave.generators.plan import SgdPlan
from twinweave.parsing import Parsed, canonical_json, load_json, parse
from twinweave.privacy.events import Event, Stage
from twinweave.protocols.party import Party
from twinweave.spec import RunSpec

DIVERGED = (
    "the training diverged: an update left the range that can be summed. "
    "Lower generator.learning_rate in a new run."
)


@dataclass(frozen=True, kw_only=True)
class TrainingPlan(Parsed):
    """Every party's private steps of one round: fixed once the table sizes are known."""

    parties: dict[str, SgdPlan]

    @classmethod
    def loads(cls, text: str) -> TrainingPlan:
        """Parse what travelled. Raises ProtocolError or ConfigError."""
        return parse(cls, load_json(text, "the training plan"), where="training plan")

    def event(self, party: str, rounds: int) -> Event:
        """What `rounds` rounds at a party release."""
        return Event(
            label=f"training at {party}",
            stage=Stage.TRAINING,
            parties=(party,),
            mechanism=self.parties[party].mechanism(rounds),
        )

    def events(self, units: tuple[tuple[str, ...], ...], rounds: int) -> list[Event]:
        """What `rounds` rounds at all parties release, one event a unit (`JointSchema.units`).

        A user is at one member of a pool at most, so the members' trainings compose in
        parallel (McSherry 2009, theorem 4): together they cost what the dearest does.
        """
        found = []
        for unit in units:
            at = max(unit, key=lambda p: self.parties[p].sampling_rate)
            label = f"training at {unit[0]}" + (f" and {len(unit) - 1} more" if unit[1:] else "")
            found.append(replace(self.event(at, rounds), label=label, parties=unit))
        return found

    def check(self, spec: RunSpec, rows: Mapping[str, int]) -> None:
        """Raise ProtocolError unless the plan is what the specification and the sizes say, and
        leaves nothing open but the noise; without noise where the specification is unsafe, and
        there alone."""
        generator, unsafe = spec.trained.generator, spec.unsafe
        if sorted(self.parties) != sorted(spec.parties):
            raise ProtocolError("the training plan is of other parties. Start a new run.")
        for name, own in self.parties.items():
            noise = 0.0 if unsafe else own.noise_multiplier
            if not (unsafe or noise):
                raise ProtocolError("the specification has no training without noise. Refused.")
            wanted = SgdPlan.of(generator, rows=rows[name], noise_multiplier=noise, unsafe=unsafe)
            if asdict(wanted) != asdict(own):
                raise ProtocolError(
                    f"the plan of {name!r} is not the specification's. Start a new run."
                )
        for unit in spec.schema.units:
            if len({self.parties[name].noise_multiplier for name in unit}) > 1:
                raise ProtocolError("the members of a pool train with one noise. Start a new run.")


def accept_training(party: Party) -> None:
    """Check the training that a run plans, as a party, before anything is released.

    Raises ProtocolError unless it is what the specification and the sizes say; BudgetError
    unless all rounds of it fit with all tables, those chosen later included, into the run and
    the guard.
    """
    spec, text = party.spec, party.state.training
    if spec.training is None:
        if text:
            raise ProtocolError("the run specification has no training. Start a new run.")
        return
    plan, rounds = TrainingPlan.loads(text), spec.training.generator.rounds
    plan.check(spec, party.rows)
    own = [*spec.tables.events(party.name), *spec.later, *spec.evaluation(party.name)]
    everyones = [*spec.tables.events(), *spec.later, *spec.evaluation()]
    party.foresee(
        [*own, plan.event(party.name, rounds)],
        [*everyones, *plan.events(spec.schema.units, rounds)],
    )


def row_weights(rows: Mapping[str, int]) -> dict[str, float]:
    """Each party's weight in an average: its rows over the mean. Sizes are public."""
    mean = sum(rows.values()) / len(rows)
    return {party: n / mean for party, n in rows.items()}


def terms_of(
    rows: Mapping[str, int],
    plan: str,
    weights: NDArray[np.float32],
    one_way: Mapping[str, NDArray[np.float64]],
) -> str:
    """SHA-256, hex, of all that the parties of a round must have been told alike.

    It enters their masks: where a server told them different stories, nothing cancels.
    """
    digest = sha256(canonical_json({"rows": rows, "plan": plan}).encode())
    digest.update(np.ascontiguousarray(weights, dtype="<f4").tobytes())
    for name in sorted(one_way):
        digest.update(canonical_json({"column": name, "size": one_way[name].size}).encode())
        digest.update(np.ascontiguousarray(one_way[name], dtype="<f8").tobytes())
    return digest.hexdigest()
