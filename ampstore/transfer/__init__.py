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

from ampstore.transfer.copying import Merged, Policy, Preference, copy, merge
from ampstore.transfer.differences import Difference, diff
from ampstore.transfer.folding import FOLDED, fold, left_in_archive
from ampstore.transfer.legacy import STORE_NAME, export_legacy, find_containers, import_legacy
from ampstore.transfer.rekey import Rekeyed, change_keys, rekey
from ampstore.transfer.report import Conflict, Copied, Progress, Report, Version
from ampstore.transfer.restore import Restored, restore

__all__ = [
    "FOLDED",
    "STORE_NAME",
    "Conflict",
    "Copied",
    "Difference",
    "Merged",
    "Policy",
    "Preference",
    "Progress",
    "Rekeyed",
    "Report",
    "Restored",
    "Version",
    "change_keys",
    "copy",
    "diff",
    "export_legacy",
    "find_containers",
    "fold",
    "import_legacy",
    "left_in_archive",
    "merge",
    "rekey",
    "restore",
]
