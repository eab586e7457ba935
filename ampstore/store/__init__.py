"""A store: text keys to Python values, durable, compressed, safe, for many processes at once.

`entries` has the mapping (backend x codec) and batches, `store` what is kept and done around it;
`opening` leads from a path and a flag to a backend at HEAD; `care` verifies, counts and copies;
`compaction` stores it all in less space; `streams` keeps what was read last.
"""

from ampstore.store.care import Damage, Stats
from ampstore.store.opening import Flag
from ampstore.store.store import Store

__all__ = ["Damage", "Flag", "Stats", "Store"]
