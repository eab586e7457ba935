"""What a PATH on the command line is, and the options that several commands share."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import click

from ampstore.errors import MissingStoreError

if TYPE_CHECKING:
    from ampstore.database import FileDatabase
    from ampstore.store import Store


class _Place(click.Path):
    """A path, or the URL of a database."""

    name = "path"

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        from ampstore.backend import is_url

        return str(value) if is_url(value) else super().convert(value, param, ctx)


class FileOnly(click.Path):
    """A path; a URL is refused with the way out, and not repeated, since a password may be in it.

    Parameters
    ----------
    way_out : str
        What to do with a store on a server.
    """

    def __init__(self, way_out: str, **options: Any) -> None:
        super().__init__(path_type=Path, **options)
        self._way_out = way_out

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        """The path."""
        from ampstore.backend import is_url

        if is_url(value):
            raise click.UsageError(f"this is for files, not for a store on a server; {self._way_out}", ctx)
        return super().convert(value, param, ctx)


place_argument = click.argument("path", type=_Place(path_type=Path))
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
allow_option = click.option(
    "--allow",
    multiple=True,
    metavar="PACKAGE",
    help="Trust objects of this package in values; may be given again. Only for files that you trust.",
)


def open_target(path: Path | str, *, write: bool = False, allow: tuple[str, ...] = ()) -> "Store | FileDatabase":
    """The store or container at a path or URL.

    Raises
    ------
    MissingStoreError
        If there is neither.
    """
    from ampstore.store import Store

    if isinstance(path, str) or path.is_file():
        return Store(path, "w" if write else "r", allow=allow)
    from ampstore.database import FileDatabase  # half of the start of `ampstore ls`, so only where it is one
    from ampstore.legacy import container_path

    if container_path(path).is_dir():
        return FileDatabase(path, None if write else "r", allow=allow)
    raise MissingStoreError(str(path), "there is neither a store's file nor an .ampdb container here")


def shown(path: Path | str) -> str:
    """A path, or a URL without its password."""
    from ampstore.store.opening import locate

    return locate(path).location if isinstance(path, str) else str(path)  # type: ignore[union-attr]


def plain_name(path: Path | str) -> str:
    """Last part of a path, or database and schema of a URL: a name for a file, or for people."""
    if isinstance(path, Path):
        return path.name.rstrip("/")
    parts = urlsplit(shown(path))
    names = [parts.path.strip("/"), *parse_qs(parts.query).get("schema", [])]
    return re.sub(r"[^\w.-]+", "-", "-".join(filter(None, names))) or "store"


def store_at(path: Path | str) -> Path | str:
    """File of the store at a path, or the URL."""
    return path if isinstance(path, str) else store_file(path)


def store_file(path: Path) -> Path:
    """File of the store at a path, which may be a container.

    Raises
    ------
    MissingStoreError
        If there is none.
    """
    from ampstore.legacy import container_path
    from ampstore.spool import check_folded
    from ampstore.transfer import STORE_NAME

    file = path if path.is_file() else container_path(path) / STORE_NAME
    if not path.is_file():
        check_folded(container_path(path))
    if not file.is_file():
        raise MissingStoreError(str(path), "there is no store here; `ampstore migrate` makes one of a legacy container")
    return file


def store_place(path: Path) -> Path:
    """Where the store of a path is, or would be: the path itself, or in the container that it names."""
    from ampstore.legacy import container_path
    from ampstore.transfer import STORE_NAME

    container = container_path(path)
    return container / STORE_NAME if container.is_dir() or container.name == path.name else path
