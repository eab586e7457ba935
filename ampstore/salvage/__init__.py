"""Everything that is undamaged, out of a damaged store, archive or container, into a new store.

    salvage(source, destination, second=[...])

    for every key    the first whole version of   loose > store > archive   (those of the source)
                     else of the second copies, in the order in which they were given

Every value is compared with its checksum before it is written. A version that is not surely the one
that was lost is written and named in `unsure`, or left out with `certain=True`; what has no whole
version anywhere is named in `lost`. The source is only read.
"""

from ampstore.salvage.report import Finding, Salvaged
from ampstore.salvage.run import salvage

__all__ = ["Finding", "Salvaged", "salvage"]
