"""The README's examples run, and its promises about commands hold."""

import re
import subprocess
import sys

from conftest import ROOT

README = (ROOT / "README.md").read_text()


def test_python_examples_run(tmp_path):
    """Every block of Python, one after the other, in an empty directory."""
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        subprocess.run([sys.executable, "-c", block], cwd=tmp_path, check=True, capture_output=True)


def test_every_command_stands_in_the_readme():
    """A new command is named there."""
    from ampstore.cli import main

    for name in main.list_commands(None):
        assert re.search(rf"\b{name}\b", README), name


def test_demo_migrates_the_shipped_databases_and_reads_them_back(tmp_path):
    """What `make demo` runs."""
    command = [sys.executable, ROOT / "examples" / "demo.py", tmp_path]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "the same as the legacy pickle says: True" in shown
    assert "select * from entries limit 3" in shown
    assert re.search(r"^all +80 +80 +0 +0 ", shown, re.MULTILINE)
