"""Write the man pages: `python docs/man.py [DIRECTORY]`, docs/man by default. They are shipped with the wheel."""

import sys
import tomllib
from pathlib import Path

from click_man.core import write_man_pages

from ampstore.cli import main

HERE = Path(__file__).resolve().parent


def write(directory):
    """One page for the command and one for each of its subcommands; no date, so that only changes change them."""
    version = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]["version"]
    Path(directory).mkdir(parents=True, exist_ok=True)
    main.commands = {name: main.get_command(None, name) for name in main.list_commands(None)}
    write_man_pages("ampstore", main, version=version, target_dir=str(directory), date=version)
    main.commands = {}


if __name__ == "__main__":
    write(sys.argv[1] if len(sys.argv) > 1 else HERE / "man")
