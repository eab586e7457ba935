"""Legacy containers into a store and back: verified, resumable, idempotent.

    fold    loose/ ---┐ read --safe pickle--> value --codec--> blob --commit--> row --read back--> same?
            archive --┘                                                              └-> then, if asked,
                                                                                         the source goes
A loose file wins over the store, the store over the archive, unless the archived entry was written
after the stored one: then a legacy program archived a newer value meanwhile.

What cannot be read stays where it is and is named in the report. Killed anywhere, the same call
again finishes the work: what is stored already is compared, not written.

`rekey` changes the keys of a store from one scheme of hashes to another.
"""

from ampstore.transfer.folding import FOLDED, fold, left_in_archive
from ampstore.transfer.legacy import STORE_NAME, export_legacy, find_containers, import_legacy
from ampstore.transfer.rekey import Rekeyed, change_keys, rekey
from ampstore.transfer.report import Progress, Report
from ampstore.transfer.restore import Restored, restore

__all__ = [
    "FOLDED",
    "STORE_NAME",
    "Progress",
    "Rekeyed",
    "Report",
    "Restored",
    "change_keys",
    "export_legacy",
    "find_containers",
    "fold",
    "import_legacy",
    "left_in_archive",
    "rekey",
    "restore",
]
