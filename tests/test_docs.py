"""The site builds without a warning, its pictures are those of the code, and every example of it runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
RUNS = {"python", "console"}
ONLY_READ = {  # page: why its examples of Python are not run here
    "amp.md": "needs Amp; tests/test_real_amp.py runs what it shows",
    "workers.md": "needs other hosts; tests/test_remote.py runs what it shows",
    "parallel.md": "needs Dask clusters and MPI; tests/test_dask.py and test_mpi.py run what it shows",
}


def blocks(page):
    return [(language, text) for language, text in BLOCK.findall(page.read_text()) if language in RUNS]


def name_of(page):
    return str(page.relative_to(DOCS))


WITH_EXAMPLES = [page for page in PAGES if blocks(page) and name_of(page) not in ONLY_READ]


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=name_of)
def test_examples_of_a_page_run_one_after_the_other(page, tmp_path):
    """Blocks of Python share their names; lines of a console that begin with $ must succeed."""
    program = ["import subprocess, sys", "sys.path.insert(0, '')"]
    for language, text in blocks(page):
        if language == "python":
            program.append(text)
        else:
            commands = re.findall(r"^\$ (.*(?:\n> .*)*)", text, re.MULTILINE)
            program += [f"subprocess.run(['bash', '-c', {command!r}], check=True)" for command in commands]
    (tmp_path / "page.py").write_text("\n".join(program))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = [sys.executable, "page.py"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_command_has_an_example_that_runs():
    """None is left out of the page of examples."""
    from ampstore.cli import COMMANDS

    consoles = "\n".join(text for language, text in blocks(DOCS / "reference" / "commands.md") if language == "console")
    shown = set(re.findall(r"\bampstore ([a-z][a-z-]*)", consoles))
    assert sorted(set(COMMANDS) - shown) == []


def test_every_public_name_stands_in_the_reference():
    """Names by autodoc; errors in the tree that the page of errors shows."""
    import ampstore
    from ampstore import anneal, errors

    reference = (DOCS / "reference" / "api.md").read_text()
    stand = set(re.findall(r"^\.\. auto\w+:: ampstore\.(?:anneal\.)?(\w+)$", reference, re.MULTILINE))
    stand |= set(re.findall(r"\w+", errors.__doc__))
    assert sorted({*ampstore.__all__, *anneal.__all__} - stand) == []


def test_shell_scripts_are_well_formed():
    """What cannot be run here, job scripts for instance, is at least read by the shell."""
    for page in PAGES:
        for language, text in BLOCK.findall(page.read_text()):
            if language == "bash":
                subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def test_the_site_builds_without_a_warning(tmp_path):
    """Links, references and docstrings."""
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "ampstore.Store" in (tmp_path / "reference" / "api.html").read_text()


def test_every_page_is_reached_from_the_index():
    """No page is lost: each stands in a table of contents."""
    index = (DOCS / "index.md").read_text()
    for page in PAGES:
        assert page.name == "index.md" or name_of(page).removesuffix(".md") in index, page


def test_the_man_pages_are_those_of_the_commands(tmp_path):
    """`python docs/man.py` was run after the last change of an option."""
    subprocess.run([sys.executable, str(DOCS / "man.py"), str(tmp_path)], check=True, timeout=120)
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_text() for path in (DOCS / "man").iterdir()}
    assert "ampstore-migrate.1" in made


@pytest.mark.parametrize("name", ["house.svg", "flow.svg", "users.svg"])
def test_the_pictures_are_those_of_the_code(name):
    """`python docs/draw.py` was run after the last change of the floors."""
    sys.path.insert(0, str(DOCS))
    try:
        import draw
    finally:
        sys.path.remove(str(DOCS))
    assert (DOCS / "pictures" / name).read_text() == draw.PICTURES[name]()
