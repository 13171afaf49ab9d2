"""Sums of the parties' vectors that show nobody a single one.

Three protocols behind one interface, by `protocol.secure_sum`; all encode alike, so they give
the same sum to the bit. Who learns what, and which dropouts it survives, is at the head of each
protocol's module, side by side in docs/protocols/index.md. What they cost:
`python -m scripts.benchmarks.parties`.

Not hidden: the sum itself. With two parties it is, minus one's own part, the other's: so every
update has differential privacy of its own, and `check_collusion` refuses a sum without it that
would show one party's part. Not defended: a party that lies about its values or its shares; the
sum is then wrong, and where masks do not cancel, refused.

Messages, for R rounds: `deal` rides on any reply before the first round and `accept` on the
first request; a round is one upload, and a request that some answer. Masking asks only where
dropouts can be recovered (32 bytes a neighbour): two parties, and any plan that needs everyone,
need no second message. The other two always ask: the aggregators, or one party.
"""
