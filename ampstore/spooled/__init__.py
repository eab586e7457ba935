"""The store of a container, and claims on its keys, where several hosts share the file system."""

from ampstore.spooled.claims import SpooledClaims, claimed
from ampstore.spooled.store import SpooledStore

__all__ = ["SpooledClaims", "SpooledStore", "claimed"]
