"""A store: text keys to Python values, durable, compressed, safe, for many processes at once.

`store` has the mapping (backend x codec), batches, verify and backup; `opening` leads from a path
and a flag to a backend at HEAD; `streams` keeps what was read last.
"""

from ampstore.store.opening import Flag
from ampstore.store.store import Damage, Stats, Store

__all__ = ["Damage", "Flag", "Stats", "Store"]
