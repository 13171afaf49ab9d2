"""Sums of the parties' vectors that show nobody a single one.

Three protocols behind one interface, by `protocol.secure_sum`; all encode alike, so they give
the same sum to the bit. Who learns what:

| who | `masking` | `secret_sharing` | `homomorphic` |
|---|---|---|---|
| server | who took part, the length, the sum | the same | the same |
| a party | nothing | nothing; an aggregator, uniform shares | nothing; the round's decrypting \
party, the sum |
| server and one party | with two parties the other's vector, else the sum of the others' | the \
same (the aggregators outnumber `colluding`) | every vector: so `colluding: 0` only |
| all aggregators together | - | every vector | - |
| outsider | nothing | nothing | nothing |
| a server that lies about survivors | opens no sum of fewer than \
`SumPlan.honest_in_any_sum` honest parties | opens one sum or none | opens one sum or none; see \
the module for what it may alter |
| a dropout before the upload | recovered | recovered, but for an aggregator | recovered, but for \
the round's decrypting party |
| a dropout after it | in the sum, while enough others answer | in the sum, but for an \
aggregator | in the sum, but for that party |

What they cost: `python -m scripts.benchmarks.parties`.

Not hidden: the sum itself. With two parties it is, minus one's own part, the other's: so every
update has differential privacy of its own, and `check_collusion` refuses a sum without it that
would show one party's part. Not defended: a party that lies about its values or its shares; the
sum is then wrong, and where masks do not cancel, refused.

Messages, for R rounds: `deal` rides on any reply before the first round and `accept` on the
first request; a round is one upload, and a request that some answer. Masking asks only where
dropouts can be recovered (32 bytes a neighbour): two parties, and any plan that needs everyone,
need no second message. The other two always ask: the aggregators, or one party.
"""
