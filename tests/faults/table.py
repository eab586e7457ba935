"""Writes the table of docs/reliability.md from the records of the fault suite.

    python tests/faults/table.py [RECORDS]

Records of the tests that ran replace those in docs/faults.json; the table is made from that file. Tests
that inject the same with other parameters share a row; known limits have a list of their own.
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
LIMITS = "<!-- limits: begin -->", "<!-- limits: end -->"
LIMIT = "known_limit"
COLUMNS = ("fault", "what is injected", "injections", "lost", "wrong", "hung", "seconds", "seed")

Record = dict[str, object]


_DIRECTORIES = re.compile(r"(?<![\w.])(?:/[\w.@+-]+)+/(?=[\w.@+-])")


def merged(kept: Iterable[Record], new: Iterable[Record]) -> list[Record]:
    """Records by test, the new ones in the place of the old, in the order of the faults' numbers.

    Paths in the notes say nothing elsewhere, so their directories are left out.
    """
    by_test = {str(record["test"]): record for record in (*kept, *new)}
    for record in by_test.values():
        notes = record.get("notes")
        record["notes"] = [_DIRECTORIES.sub("", str(note)) for note in notes] if isinstance(notes, list) else []
    return sorted(by_test.values(), key=lambda record: (int(str(record["fault"])[1:]), str(record["test"])))


def table(records: Iterable[Record]) -> str:
    """The records as a Markdown table."""
    groups: dict[tuple[object, ...], list[Record]] = {}
    for record in records:
        if LIMIT not in _facts(record):
            groups.setdefault((record["fault"], record["what"], record["long"]), []).append(record)
    rows = [_row(group) for group in groups.values()]
    lines = [COLUMNS, ("---", "---", *["---:"] * 6), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _row(group: list[Record]) -> tuple[object, ...]:
    """One row for records that differ in a parameter; the seeds of several are in docs/faults.json."""
    first = group[0]
    injections, lost, wrong, hung = (
        sum(int(str(record[name])) for record in group) for name in ("injections", "lost", "wrong", "hung")
    )
    seconds = round(sum(float(str(record["seconds"])) for record in group), 1)
    seed = first["seed"] if len(group) == 1 else f"{len(group)} runs"
    return first["fault"], _what(group), f"{injections:,}", lost, wrong, hung, seconds, seed


def _facts(record: Record) -> dict[str, object]:
    facts = record.get("facts")
    return facts if isinstance(facts, dict) else {}


def _what(group: list[Record]) -> str:
    facts: dict[str, list[str]] = {}
    for record in group:
        for name, value in _facts(record).items():
            if str(value) not in (known := facts.setdefault(name.replace("_", " "), [])):
                known.append(str(value))
    more = "; ".join(f"{name}: {', '.join(values)}" for name, values in facts.items())
    return f"{group[0]['what']}{' (' + more + ')' if more else ''}{'' if group[0]['long'] else ' [short run]'}"


def limits(records: Iterable[Record]) -> str:
    """What was injected where a limit is known, and how often it showed."""
    return "\n".join(
        f"- {r['fault']}, {r['what']}: {r['injections']:,} injections, {_facts(r)[LIMIT]}: {_facts(r)['count']},"
        f" lost {r['lost']}, wrong otherwise {r['wrong']}, hung {r['hung']} (seed {r['seed']})."
        for r in records
        if LIMIT in _facts(r)
    )


def page(text: str, records: Iterable[Record]) -> str:
    """The page with the table and the list of limits in their places."""
    records = list(records)
    for (begin, end), made in (((BEGIN, END), table(records)), (LIMITS, limits(records))):
        text = re.sub(f"{begin}.*?{end}", f"{begin}\n{made}\n{end}".replace("\\", "\\\\"), text, flags=re.DOTALL)
    return text


def main(directory: Path) -> None:
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else []
    new = [json.loads(file.read_text()) for file in sorted(directory.glob("*.json"))]
    records = merged(kept, new)
    KEPT.write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n")
    PAGE.write_text(page(PAGE.read_text(), records))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / ".faults")
