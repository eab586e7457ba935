"""Writes the table of environments.json into docs/cores.md, or prints it with --print."""

import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent.parent / "docs" / "cores.md"


def table():
    """The corpus as a table in Markdown."""
    rows = ["| system | case | variables | answer | source |", "|---|---|---|---|---|"]
    for entry in json.loads((HERE / "environments.json").read_text()):
        answer = entry.get("hosts") or f"error that names `{entry['error']}`"
        source = re.sub(r"(https?://\S+)", r"<\1>", entry["source"])
        rows.append(
            f"| {entry['system']} | {entry['name']} | {variables(entry['environment'])} | {hosts(answer)} "
            f"| {entry['origin']}: {source} |"
        )
    return "\n".join(rows) + "\n"


def variables(environment):
    """Variables and what is in them, the beginning of long ones."""
    shown = [f"`{name}={value if len(value) <= 60 else value[:50] + '...'}`" for name, value in environment.items()]
    return " ".join(shown) or "none"


def hosts(answer):
    """Hosts and cores, the first five."""
    if isinstance(answer, str):
        return answer
    listed = [f"{host}: {count}" for host, count in answer.items()]
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")


if __name__ == "__main__":
    if "--print" in sys.argv:
        print(table(), end="")
    else:
        before, mark, after = PAGE.read_text().partition("<!-- table -->\n")
        _, end, rest = after.partition("<!-- end of table -->\n")
        PAGE.write_text(before + mark + table() + end + rest)
