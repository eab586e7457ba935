"""Legacy containers into a store and back: verified, resumable, idempotent.

    fold    loose/ ---┐ read --safe pickle--> value --codec--> blob --commit--> row --read back--> same?
            archive --┘                                                              └-> then, if asked,
                                                                                         the source goes
A loose file wins over the store, the store over the archive, unless the archived entry was written
after the stored one: then a legacy program archived a newer value meanwhile.

What cannot be read stays where it is and is named in the report. Killed anywhere, the same call
again finishes the work: what is stored already is compared, not written.

`copy` and `merge` bring the entries of any store into another, `diff` tells two apart: a side is what is
read (`sides`), a target what is written to (`targets`), a place what a name is (`places`).

`rekey` changes the keys of a store from one scheme of hashes to another.
"""

from typing import TYPE_CHECKING

from ampstore.late import late_names

if TYPE_CHECKING:
    from ampstore.transfer.copying import Merged as Merged
    from ampstore.transfer.copying import Policy as Policy
    from ampstore.transfer.copying import Preference as Preference
    from ampstore.transfer.copying import copy as copy
    from ampstore.transfer.copying import merge as merge
    from ampstore.transfer.differences import Difference as Difference
    from ampstore.transfer.differences import diff as diff
    from ampstore.transfer.folding import FOLDED as FOLDED
    from ampstore.transfer.folding import fold as fold
    from ampstore.transfer.folding import left_in_archive as left_in_archive
    from ampstore.transfer.legacy import STORE_NAME as STORE_NAME
    from ampstore.transfer.legacy import export_legacy as export_legacy
    from ampstore.transfer.legacy import find_containers as find_containers
    from ampstore.transfer.legacy import import_legacy as import_legacy
    from ampstore.transfer.rekeying import Rekeyed as Rekeyed
    from ampstore.transfer.rekeying import change_keys as change_keys
    from ampstore.transfer.rekeying import rekey as rekey
    from ampstore.transfer.report import Conflict as Conflict
    from ampstore.transfer.report import Copied as Copied
    from ampstore.transfer.report import Progress as Progress
    from ampstore.transfer.report import Report as Report
    from ampstore.transfer.report import Version as Version
    from ampstore.transfer.restoring import Restored as Restored
    from ampstore.transfer.restoring import restore as restore

_HOMES = {  # the processes that decode need none of them, and start in a third of the time
    "copying": ("Merged", "Policy", "Preference", "copy", "merge"),
    "differences": ("Difference", "diff"),
    "folding": ("FOLDED", "fold", "left_in_archive"),
    "legacy": ("STORE_NAME", "export_legacy", "find_containers", "import_legacy"),
    "rekeying": ("Rekeyed", "change_keys", "rekey"),
    "report": ("Conflict", "Copied", "Progress", "Report", "Version"),
    "restoring": ("Restored", "restore"),
}
_LATE = {name: f"transfer.{module}" for module, names in _HOMES.items() for name in names}

__all__ = [*_LATE]  # noqa: PLE0604

__getattr__ = late_names(__name__, _LATE)
