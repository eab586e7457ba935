"""Atomic structures: their keys, dictionaries of them, and the texts that Amp keeps beside them.

    get_hash(atoms) -> "7f3a…"              hash_images("md.traj") -> MetaDict {key: Atoms}
    randomize_images(images) -> train, test  string2dict(text) -> the parameters of an .amp file

Only this part imports ASE, and only inside functions; NumPy neither before it is needed. It knows nothing of
stores.
"""

from ampstore.images.files import export_images, import_images
from ampstore.images.hashing import SCHEMES, get_hash, get_hashes
from ampstore.images.literals import string2dict
from ampstore.images.metadict import MetaDict, OrderedMetaDict
from ampstore.images.names import importer, make_filename
from ampstore.images.partition import randomize_images
from ampstore.images.reading import hash_images, read_images
from ampstore.images.schemes import check_scheme, new_keys
from ampstore.log import now

__all__ = [
    "SCHEMES",
    "MetaDict",
    "OrderedMetaDict",
    "check_scheme",
    "export_images",
    "get_hash",
    "get_hashes",
    "hash_images",
    "import_images",
    "importer",
    "make_filename",
    "new_keys",
    "now",
    "randomize_images",
    "read_images",
    "string2dict",
]
