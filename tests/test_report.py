"""`ampstore report`: one page of HTML, looked at by a real browser."""

import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from click.testing import CliRunner

from ampstore import Data, Store
from ampstore.cli import main
from ampstore.report import survey
from ampstore.report.survey import BUCKETS, GROUPS, family

EVIL = "<script>document.title='taken'</script>"


def volume(image, key):
    if image == 3:
        raise ValueError(EVIL)
    return [float(image)] * 40


@pytest.fixture
def store(tmp_path):
    """A store with entries of several kinds, a hostile key, a run with a failure."""
    path = tmp_path / "results.db"
    data = Data(path, db=Store, calculator=volume)
    data.calculate_items({f"image {n}": n for n in range(6)}, on_error="collect")
    data.close()
    with Store(path) as store:
        store[EVIL] = "x" * 1000
        store["big"] = list(range(5000))
    return path


def report(path, *options):
    made = path.with_suffix(".html")
    done = CliRunner().invoke(main, ["report", str(path), "--output", str(made), *options])
    assert done.exit_code == 0, done.output
    return made.read_text()


class References(HTMLParser):
    """Everything that a page would load."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.tags = set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.found += [value for name, value in attributes if name in ("src", "href", "xlink:href", "data", "action")]


def test_the_page_loads_nothing_from_elsewhere(store):
    """References are to the page itself, or data."""
    page = References(report(store))
    assert all(value.startswith(("#", "data:")) for value in page.found), page.found
    assert "script" not in page.tags
    assert "svg" in page.tags


def test_the_page_has_the_numbers_that_the_store_has(store, raw):
    """Compared with plain sqlite3."""
    text = report(store)
    entries, size = raw(store, "select count(*), sum(size) from entry")[0]
    assert f"<td>entries</td><td>{entries}</td>" in text
    assert f'<td class="line">{size / 1000:.1f} kB</td>' in text
    for heading in ("Size by kind", "Growth", "Largest entries", "Calculations", "Failures"):
        assert f"{heading}</h" in text
    assert text.index("big") < text.index("image 5")


def test_keys_and_messages_are_only_text(store):
    """A store may come from anybody."""
    text = report(store)
    assert EVIL not in text
    assert "&lt;script&gt;" in text


def test_a_browser_shows_it_and_runs_nothing(store):
    """Headless Chromium: what it makes of the page, and a picture that is not empty."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.fail("no chromium; apt-get install chromium") if os.environ.get("CI") else pytest.skip("no chromium")
    report(store)
    page, picture = store.with_suffix(".html"), store.with_suffix(".png")
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
    command += [
        "--disable-background-networking",
        "--disable-component-update",
        f"--user-data-dir={page.parent / 'user'}",
    ]
    shown = subprocess.run(
        [*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    ).stdout
    assert re.search(r"<title>results.db</title>", shown), shown[:500]
    assert shown.count("<svg") >= 2
    subprocess.run(
        [*command, f"--screenshot={picture}", "--window-size=900,1400", page.as_uri()],
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert picture.stat().st_size > 20_000


def test_growth_begins_with_nothing_and_ends_with_everything(tmp_path):
    """A store that was written within one second has a picture with a step, not an empty one."""
    with Store(tmp_path / "new.db") as store:
        store.update({str(n): n for n in range(10)})
        growth = survey(store.listing()).growth
    assert growth[0][1:] == (0, 0)
    assert growth[-1][1] == 10 and len(growth) >= 2


def test_an_empty_store_has_a_report_too(tmp_path):
    """Nothing to draw is no error."""
    Store(tmp_path / "empty.db").close()
    assert "<td>entries</td><td>0</td>" in report(tmp_path / "empty.db")


def test_a_report_takes_constant_memory_for_any_number_of_entries():
    """Kinds and times are grouped as they come."""
    entries = ((f"key {n}", f"kind {chr(97 + n % 26)} of {n}", n, n, "raw", float(n * 7)) for n in range(20_000))
    found = survey(entries)
    assert found.total.entries == 20_000
    assert len(found.groups) == GROUPS + 1
    assert len(found.growth) <= BUCKETS + 1
    assert found.growth[-1][1] == 20_000
    assert sum(group.entries for group in found.groups.values()) == 20_000


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("list of 37 (symbol, float64[20])", "list of n (symbol, float64[n])"),
        ("int[3]", "int[n]"),
        ("str of 1", "str of n"),
    ],
)
def test_kinds_of_all_sizes_are_one(kind, name):
    """Numbers go, types stay."""
    assert family(kind) == name
