"""Simulated annealing: exact, fast, resumable, parallel; and Amp's Annealer on top of it.

    anneal(state, loss, move, schedule, rng=...) -> Result      one search
    replica_exchange(..., temperatures, rounds=...)             many temperatures that exchange states
    independent_restarts(..., count=...)                        the best of many searches
    Annealer(calc, images, Tmax, Tmin, steps, updates)          as Amp knows it

schedule      temperatures over the steps
moves         what a move may be; moves of vectors and of orders
blocks        random numbers in blocks, resumable in the middle of one
chain         the hot loop, and the memory that a checkpoint keeps
run           anneal(): segments, signals, checkpoints, progress
checkpoint    a search in any mapping
exchange      rungs of a ladder in rounds, on any executor
estimate      schedules from trial moves
annealer      the only module that knows Amp's calculator

Nothing here knows how a mapping stores what it is given, and all randomness comes from `rng`.
"""

from ampstore.anneal.annealer import Annealer
from ampstore.anneal.checkpoint import Checkpoint
from ampstore.anneal.estimate import estimate_schedule
from ampstore.anneal.exchange import replica_exchange
from ampstore.anneal.moves import EVALUATE, InPlace, Move, Moved, Nudge, Reverse, Scale, Shift, Swap
from ampstore.anneal.restarts import Restarts, independent_restarts
from ampstore.anneal.result import ExchangeResult, Result
from ampstore.anneal.run import anneal
from ampstore.anneal.schedule import Adaptive, Exponential, Geometric, Linear, Schedule, ladder
from ampstore.anneal.trace import Point, Trace

__all__ = [
    "EVALUATE",
    "Adaptive",
    "Annealer",
    "Checkpoint",
    "ExchangeResult",
    "Exponential",
    "Geometric",
    "InPlace",
    "Linear",
    "Move",
    "Moved",
    "Nudge",
    "Point",
    "Restarts",
    "Result",
    "Reverse",
    "Scale",
    "Schedule",
    "Shift",
    "Swap",
    "Trace",
    "anneal",
    "estimate_schedule",
    "independent_restarts",
    "ladder",
    "replica_exchange",
]
