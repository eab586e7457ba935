"""Draw the pictures of the site: `python docs/draw.py`. A test compares them with the code that they show.

house.svg   the floors, as tests/test_layers.py holds them
flow.svg    what happens to a value on its way into a store and back
users.svg   who uses a store, and by what
"""

import ast
from pathlib import Path

HERE = Path(__file__).resolve().parent
SAYS = {  # what a floor is about, by one of its parts
    "errors": "what everybody needs",
    "log": "what happens is told, who did it, and where",
    "lease": "one maintainer among many hosts",
    "codec": "what a value, a table, an image, a core is",
    "backend": "databases, sockets, processes",
    "store": "mappings, old files, work",
    "shelf": "the surface of shelve, moving entries, workers",
    "database": "Amp's database; a store's place, and what can be saved of it",
    "data": "what is missing is calculated; entries by number",
    "overview": "how a calculation goes",
    "report": "a store as a page",
    "cli": "programs and people",
}
STYLE = """\
<style>
text { font: 15px system-ui, sans-serif; fill: #1b2a38 }
.small { font-size: 12px; fill: #5b6b7a }
.floor { fill: #f3f6f9 } .room { fill: #fff; stroke: #8aa1b5 } .step { fill: #e8f1ea; stroke: #6f9a7d }
.disk { fill: #f7eedd; stroke: #b79a5b } .line { stroke: #5b6b7a; stroke-width: 1.5; fill: none } .paper { fill: #fff }
</style>
<marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">
<path d="M0 0 10 5 0 10z" fill="#5b6b7a"/></marker>
<marker id="tail" viewBox="0 0 10 10" refX="1" refY="5" markerWidth="7" markerHeight="7" orient="auto">
<path d="M10 0 0 5 10 10z" fill="#5b6b7a"/></marker>
"""


def floors():
    """The floors from the ground up, each a list of parts."""
    for node in ast.parse((HERE.parent / "tests" / "test_layers.py").read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "FLOORS":
            return [sorted(parts) for parts in ast.literal_eval(node.value)]
    raise LookupError("tests/test_layers.py has no FLOORS")


def house():
    """A picture of the floors, the ground at the bottom."""
    storeys = [parts for parts in floors() if parts != ["__main__"]]
    height = 64
    drawn = [_svg(780, height * len(storeys) + 16)]
    for number, parts in enumerate(storeys):
        top = 8 + height * (len(storeys) - 1 - number)
        drawn.append(f'<rect class="floor" x="8" y="{top}" width="764" height="{height - 6}" rx="6"/>')
        drawn.append(f'<text class="small" x="20" y="{top + 18}">{_about(parts)}</text>')
        left = 20
        for part in parts:
            width = 9 * len(part) + 22
            drawn.append(f'<rect class="room" x="{left}" y="{top + 25}" width="{width}" height="27" rx="4"/>')
            drawn.append(f'<text x="{left + 11}" y="{top + 44}">{part}</text>')
            left += width + 8
    return "\n".join([*drawn, "</svg>", ""])


def _about(parts):
    """What is said of a floor; a floor of which nothing is said is an error."""
    return next(SAYS[part] for part in parts if part in SAYS)


def flow():
    """A picture of writing and reading one value."""
    write = ["value", "rule", "columns, pickle", "SHA-256", "zstd", "CRC-32", "one commit"]
    read = ["value", "rule", "columns, pickle", "zstd, bounded", "CRC-32", "one SELECT"]
    drawn = [_svg(1010, 250)]
    drawn += ['<rect class="disk" x="880" y="40" width="120" height="160" rx="8"/>']
    drawn += ['<text x="893" y="100">store.sqlite3</text>', '<text class="small" x="893" y="125">-wal  -shm</text>']
    drawn += _row(write, 40, "set", forward=True)
    drawn += _row(read, 150, "get", forward=False)
    return "\n".join([*drawn, "</svg>", ""])


def users():
    """A picture of those who meet at one store: programs, people and old files."""
    comers = [
        ("programs with shelve", 'ampstore.open("results.db")'),
        ("programs of Amp", 'FileDatabase("label-fingerprints"), Data'),
        ("directories of old pickles", "ampstore migrate DIRECTORY"),
        ("many jobs at once", "claims: nobody computes what another does"),
        ("people", "ampstore ls, top, report; sqlite3 -readonly"),
    ]
    drawn = [_svg(780, 300), '<rect class="disk" x="500" y="20" width="262" height="260" rx="10"/>']
    for number, (who, how) in enumerate(comers):
        top = 14 + 55 * number
        drawn.append(f'<rect class="room" x="14" y="{top}" width="400" height="46" rx="5"/>')
        drawn.append(f'<text x="28" y="{top + 20}">{who}</text>')
        drawn.append(f'<text class="small" x="28" y="{top + 38}">{how}</text>')
        drawn.append(
            f'<path class="line" d="M416 {top + 23} 496 {top + 23}" marker-start="url(#tail)" marker-end="url(#tip)"/>'
        )
    drawn.append('<text x="520" y="52">one SQLite file</text>')
    says = (
        "typed columns and zstd",
        "a checksum for every entry",
        "commits that survive kill -9",
        "reading runs no code",
        "writers in a fair queue",
        "rows that people can read",
    )
    drawn += [f'<text class="small" x="520" y="{88 + 30 * number}">{line}</text>' for number, line in enumerate(says)]
    return "\n".join([*drawn, "</svg>", ""])


def _row(steps, top, name, *, forward):
    yield f'<text class="small" x="8" y="{top - 8}">{name}</text>'
    width = (860 - 12 * len(steps)) / len(steps)
    for number, step in enumerate(steps):
        left = 8 + number * (width + 12)
        yield f'<rect class="step" x="{left:.0f}" y="{top}" width="{width:.0f}" height="46" rx="5"/>'
        yield f'<text class="small" x="{left + 8:.0f}" y="{top + 27}">{step}</text>'
        start, end = left + width + 1, left + width + 11
        if not forward:
            start, end = end, start
        y = top + 23
        yield f'<path class="line" d="M{start:.0f} {y} {end:.0f} {y}" marker-end="url(#tip)"/>'


def _svg(width, height):
    # On a sheet of its own, so that it can be read on a dark page as well.
    sheet = f'<rect class="paper" width="{width}" height="{height}" rx="8"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">\n{STYLE}{sheet}'


PICTURES = {"house.svg": house, "flow.svg": flow, "users.svg": users}

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (HERE / "pictures" / name).write_text(draw())
