"""The table in the docs is what the suite recorded."""

import json

from faults.table import KEPT, PAGE, merged, page, table


def test_the_page_shows_the_kept_records():
    """Nobody edits the table by hand."""
    assert PAGE.read_text() == page(PAGE.read_text(), json.loads(KEPT.read_text()))


def test_new_records_replace_those_of_the_same_test():
    """In the order of the numbers, not of the text."""
    old = {"fault": "F10", "what": "a", "test": "t10", "long": True, "seed": 1, "seconds": 2.0}
    old |= {"injections": 1000, "lost": 0, "wrong": 0, "hung": 0}
    new = old | {"fault": "F2", "test": "t2"}
    assert [record["fault"] for record in merged([old, new], [new])] == ["F2", "F10"]
    assert "| F2 | a | 1,000 | 0 | 0 | 0 | 2.0 | 1 |" in table([new])
