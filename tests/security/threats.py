"""The lines of the threat model, by name. Tests say which of them they hold:

    @pytest.mark.attack("coins")      the party does what the line says
    @pytest.mark.curious("server")    whoever it is about learns that and, as far as tested, no more
    @pytest.mark.remains("guesses")   what can still be done, shown
    @pytest.mark.broken("coins")      without the defence, the same test sees it

`python -m tests.security.page` writes docs/security.md from these lines and the tests' marks.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """what: an attack, or who learns something. then: what the party does, or what is learned."""

    what: str
    then: str


CURIOUS: dict[str, Line] = {
    "server": Line(
        "the server",
        "reads no id, no hash of one, no tag blinded once, no coded row, no matrix, no secret, no "
        "count without noise",
    ),
    "audit-counts": Line(
        "the server", "of an audit, counts of hits with the noise that was charged, or nothing"
    ),
    "server-view": Line(
        "the server",
        "of dealt tables, nothing that cannot be made from the specification, the tables' "
        "sizes, which tags match, and the noisy tables",
    ),
    "server-updates": Line(
        "the server", "of a training, sums of updates, and no update of one party"
    ),
    "server-order": Line("the server", "the order of the tags is not that of a party's table"),
    "party": Line(
        "a party",
        "among all it receives and can open: no id, bare hash, coded row, matrix, secret or exact "
        "table of another",
    ),
    "server-tags": Line(
        "the server", "tags are under keys that it lacks: ids that it guesses do not match them"
    ),
    "party-sum": Line(
        "a party", "of two, a sum minus one's own is the other's update, with its full noise"
    ),
    "party-noise": Line("a party", "of a table with coins, nothing of its noise"),
    "together": Line(
        "server and a party",
        "of dealt tables: the other party's rows as coded for the run, and who is in the overlap",
    ),
    "together-encrypted": Line(
        "server and a party",
        "of homomorphic tables: what decrypts is uniform, and another's key opens nothing",
    ),
    "together-noise": Line(
        "server and a party",
        "the noise of coins, which follows from what both hold; of a Gaussian table the party's "
        "own draw, and the other's stays",
    ),
    "outsider": Line(
        "an outsider",
        "without a pinned identity it takes no party's place; what parties seal opens to nobody "
        "else",
    ),
}

ATTACKS: dict[str, Line] = {
    "cost": Line(
        "a specification that costs more than it says, guard on or off",
        "refuses at setup; its book holds every run to its own ε all the same",
    ),
    "limits": Line(
        "a specification that asks for more than the site file allows in one run",
        "refuses at setup, guard on or off",
    ),
    "numbers": Line(
        "noise, domains or numbers that cannot be computed with", "refuses at setup, by name"
    ),
    "clips": Line(
        "a sum up to a clip so small that its unit is rounded to nothing",
        "refuses; and would count no user for more than the units that are charged",
    ),
    "clusters": Line(
        "a table of a party's clusters without its arms, or with another column of its own",
        "refuses before anything is charged",
    ),
    "members": Line("pool members that are no parties", "refuses before anything is charged"),
    "audit-word": Line(
        "an audit that asks for a party's exact word on the synthetic tables",
        "refuses at setup, unless its site file allows that",
    ),
    "audit-rows": Line(
        "synthetic rows made up to ask about one person",
        "answers with counts that the person changes by one, under the noise that was charged",
    ),
    "pools": Line("a pool that the site file does not name", "refuses at setup"),
    "second-plan": Line(
        "a second plan that breaks a rule of the first", "refuses before it is charged"
    ),
    "fork": Line(
        "two parties told different second plans",
        "each seals for all others what only the same plan opens; nothing is charged",
    ),
    "keys": Line(
        "a key, a run or a specification exchanged in a hello", "refuses: it is not as signed"
    ),
    "sealed": Line(
        "a sealed message altered, cut, or from another place or run", "it does not open"
    ),
    "sizes": Line("other sizes than the parties signed", "refuses the hello"),
    "absurd": Line(
        "a peer that signs an absurd size", "refuses before memory or budget is spent on it"
    ),
    "unknown": Line("requests of runs that it makes up", "refuses; nothing of them stays on disk"),
    "slots": Line("more slots than the sum of the signed rows", "refuses before it is charged"),
    "again": Line(
        "a second request under one name, also after a refusal; a replay",
        "considers one request a name; repeats its stored answer",
    ),
    "record": Line(
        "a request repeated after a crash, or once the party has lost its record of the run or "
        "set it back to an earlier one",
        "answers it once: from its disk, or under the old charge; without its record of the "
        "request not at all",
    ),
    "rollback": Line(
        "its state taken back through Flower's context", "keeps state and answers on its own disk"
    ),
    "mixed": Line(
        "two matrices mixed, or a peer's message exchanged",
        "shares are bound to what both sent: what opens is uniform",
    ),
    "strangers": Line(
        "strangers matched: two different people in one slot",
        "marks of ids enter the product: where a slot's differ, what opens is uniform",
    ),
    "coins": Line(
        "dealt coins that are not bits",
        "looks at some of every round, chosen under the parties' secret; refuses before it is "
        "charged",
    ),
    "shapes": Line(
        "slots, seeds, words, corrections of the wrong size, kind or number",
        "refuses by name before it is charged",
    ),
    "rounds": Line(
        "another training plan in a later round, rounds out of order", "refuses by name"
    ),
    "dear-round": Line(
        "a round dearer than what is left of the run's ε, guard off", "its book refuses"
    ),
    "unsafe": Line(
        "a training without noise: asked for in the specification, or planned in a run that was "
        "accepted with noise",
        "refuses at setup, unless its site file agrees to such runs and its guard is off; refuses "
        "the plan before anything is released",
    ),
    "rounding": Line(
        "adapters so large that rounding makes a row's gradient depend on the rows beside it",
        "rows of a pretrained model go through it one by one in private steps",
    ),
    "stories": Line(
        "other weights, one-way tables or plans told to two parties",
        "their masks do not cancel: no sum opens",
    ),
    "survivors": Line("another set of survivors", "answers one set a round"),
    "few": Line("a sum of fewer parties than the plan says", "helps to open none"),
    "nonfinite": Line(
        "rows or weights that make numbers overflow, or a norm's square vanish",
        "takes the same steps whatever the rows are; norms are never below the truth",
    ),
    "ckks": Line(
        "a ciphertext of its own making to decrypt", "one request a round, one text of refusal"
    ),
    "overwrite": Line(
        "a peer answers another's tables", "the server names it, and takes only the party's own"
    ),
    "errors": Line(
        "control characters, long texts or values of cells in an error",
        "strips and cuts them; a party's error names column, rule and remedy",
    ),
    "decoders": Line("messages that do not decode", "an error with a name"),
    "files": Line(
        "whoever else is on the machine", "its files are its owner's alone; an error names no path"
    ),
    "secrets": Line(
        "a machine searched after a run", "the run's secrets are gone after its last answer"
    ),
    "shared": Line("two nodes with one work folder", "each answers for itself"),
    "code": Line("code shipped with the run", "`scripts.supernode` leaves it packed"),
    "any": Line(
        "any one alteration of an honest run (drop, repeat, reorder, replay, exchange, a hostile "
        "value) at any phase, by server or party",
        "what left is covered by its charges and by what it accepted; every error has a name",
    ),
}

REMAINS: dict[str, Line] = {
    "stop": Line("server or party", "stop the run; a party that does is named"),
    "lies": Line("a party", "answer what it likes of its own table: nothing proves what it holds"),
    "weights": Line(
        "a party",
        "let a row of its own count many times in a table across, and read, past the noise, the "
        "coded row that another party holds of the same person: nothing proves that its matrix "
        "counts each row once",
    ),
    "torn": Line(
        "the server",
        "tear a match apart: its person changes two cells of a table across by one each; the "
        "ledger says what ε then is",
    ),
    "guesses": Line("server and a party", "try guessed ids against the tags of another's"),
    "luck": Line(
        "the server",
        "hand out coins that are no bits, unnoticed with probability 2⁻⁴⁰ a cell or less, which "
        "is not added to δ",
    ),
    "spent": Line(
        "the server", "stop a run that parties were charged for: what was spent stays spent"
    ),
}

PLAYED = {"code": "python -m scripts.trials.deployment --hostile"}
"""Lines that a trial plays too: processes of Flower's, TLS, authentication."""

KINDS: dict[str, dict[str, Line]] = {"attack": ATTACKS, "curious": CURIOUS, "remains": REMAINS}
