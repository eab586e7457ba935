"""Writes the table of docs/reliability.md from the records of the fault suite.

    python tests/faults/table.py [RECORDS]

Records of the tests that ran replace those in docs/faults.json; the table is made from that file.
"""

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
KEPT = ROOT / "docs" / "faults.json"
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
COLUMNS = ("fault", "what is injected", "injections", "lost", "wrong", "hung", "seconds", "seed")

Record = dict[str, object]


def merged(kept: Iterable[Record], new: Iterable[Record]) -> list[Record]:
    """Records by test, the new ones in the place of the old, in the order of the faults' numbers."""
    by_test = {str(record["test"]): record for record in (*kept, *new)}
    return sorted(by_test.values(), key=lambda record: (int(str(record["fault"])[1:]), str(record["test"])))


def table(records: Iterable[Record]) -> str:
    """The records as a Markdown table."""
    rows = [
        (r["fault"], _what(r), f"{r['injections']:,}", r["lost"], r["wrong"], r["hung"], r["seconds"], r["seed"])
        for r in records
    ]
    lines = [COLUMNS, ("---", "---", *["---:"] * 6), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _what(record: Record) -> str:
    facts = record.get("facts") or {}
    more = "; ".join(f"{name.replace('_', ' ')}: {value}" for name, value in facts.items())  # type: ignore[attr-defined]
    return f"{record['what']}{' (' + more + ')' if more else ''}{'' if record['long'] else ' [short run]'}"


def page(text: str, records: Iterable[Record]) -> str:
    """The page with the table in its place."""
    return re.sub(f"{BEGIN}.*?{END}", lambda _: f"{BEGIN}\n{table(records)}\n{END}", text, flags=re.DOTALL)


def main(directory: Path) -> None:
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else []
    new = [json.loads(file.read_text()) for file in sorted(directory.glob("*.json"))]
    records = merged(kept, new)
    KEPT.write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n")
    PAGE.write_text(page(PAGE.read_text(), records))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / ".faults")
