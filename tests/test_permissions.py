"""Modes, groups, other users and symbolic links, as real other users of this machine see them."""

import os
import pickle
import re
import stat
import subprocess
import sys
import traceback

import pytest
from click.testing import CliRunner
from conftest import ROOT

import ampstore
from ampstore.cli import main
from ampstore.errors import AccessError
from ampstore.legacy import maintenance_lock

ALICE, BOB, GROUP = 65533, 65532, 65531
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become other users")


@pytest.fixture(scope="module", autouse=True)
def everything_imported(tmp_path_factory):
    """Children that are other users may be unable to read this Python: what they need is loaded before the fork."""
    directory = tmp_path_factory.mktemp("warm")
    with ampstore.FileDatabase(directory / "c") as database:
        database["a"] = [0.5] * 10
        database.claims().take(["x"], 1)
        database.archive()
        database.store.backup(directory / "backup.db")
    with ampstore.LegacyDatabase(directory / "legacy") as legacy:
        legacy["a"] = 1
        legacy.archive()
    with ampstore.FileDatabase(directory / "c", "r") as database:
        database["a"]


def as_user(user, group, umask, do):
    """Run `do` in a child that is another user; its failure fails the test."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reader)
            os.umask(umask)
            os.setgroups([])
            os.setgid(group)
            os.setuid(user)
            do()
        except BaseException:
            os.write(writer, traceback.format_exc().encode()[-3000:])
            os._exit(1)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        said = file.read().decode()
    assert os.waitpid(child, 0)[1] == 0, said


@pytest.fixture
def shared(tmp_path_factory):
    """A directory that a group writes to, with setgid, reachable for other users."""
    directory = tmp_path_factory.mktemp("shared")
    for parent in (directory, *directory.parents):
        if parent.stat().st_uid == os.getuid() and not stat.S_IMODE(parent.stat().st_mode) & 0o011 == 0o011:
            parent.chmod(stat.S_IMODE(parent.stat().st_mode) | 0o011)
    os.chown(directory, ALICE, GROUP)
    directory.chmod(0o2770)
    return directory


def modes(directory):
    return {
        str(path.relative_to(directory)): stat.S_IMODE(path.stat().st_mode)
        for path in directory.rglob("*")
        if not path.is_symlink()
    }


@needs_root
@pytest.mark.parametrize(("umask", "widest"), [(0o077, 0o700), (0o027, 0o750), (0o002, 0o775)])
def test_nothing_is_made_wider_than_the_umask(shared, umask, widest):
    """Store, WAL, lock, loose directory and files, backup, archive: each has the mode of the umask or less."""

    def work():
        with ampstore.FileDatabase(shared / "c") as database:
            database["a"] = [0.5] * 10
            database.archive()
            database.store.backup(shared / "backup.db")
            database["b"] = 1
            found.update(modes(shared))
            too_wide = {name: oct(mode) for name, mode in modes(shared).items() if mode & 0o777 & ~widest}
            assert not too_wide, too_wide
            if umask == 0o002:
                closed = {name: oct(mode) for name, mode in modes(shared).items() if not mode & 0o020}
                assert not closed, closed
        with ampstore.LegacyDatabase(shared / "legacy") as legacy:
            legacy["a"] = 1
            legacy.archive()
        assert not {name for name, mode in modes(shared).items() if mode & 0o777 & ~widest}

    found = {}
    as_user(ALICE, GROUP, umask, work)
    assert {path.stat().st_gid for path in shared.rglob("*")} == {GROUP}  # setgid, or the group of the user


@needs_root
def test_a_group_shares_a_container(shared):
    """Alice makes it, Bob writes, claims, archives and upgrades the lock; Alice reads Bob's values."""

    def alice():
        with ampstore.FileDatabase(shared / "c") as database:
            database["a"] = 1
            database.archive()

    def bob():
        with ampstore.FileDatabase(shared / "c") as database:
            assert database["a"] == 1
            database["b"] = 2
            assert database.claims().take(["x"], 1).mine == ["x"]
            database.archive()

    def alice_again():
        with ampstore.FileDatabase(shared / "c") as database:
            assert database["b"] == 2
            database["a"] = 3

    as_user(ALICE, GROUP, 0o002, alice)
    as_user(BOB, GROUP, 0o002, bob)
    as_user(ALICE, GROUP, 0o002, alice_again)


@needs_root
def test_claims_and_locks_of_another_user_block_no_read(shared):
    """Bob may only read; Alice holds a claim, a transaction and the maintenance lock."""
    shared.chmod(0o2755)

    def alice():
        with ampstore.FileDatabase(shared / "c") as database:
            database["a"] = 1
            database.claims().take(["x"], 1)

    def bob():
        with ampstore.FileDatabase(shared / "c", "r") as database:
            assert database["a"] == 1
            assert "x" not in database
            with pytest.raises(PermissionError):
                database["b"] = 1

    as_user(ALICE, GROUP, 0o022, alice)
    ready, done = os.pipe(), os.pipe()
    holder = os.fork()
    if not holder:
        os.close(done[1])
        with (
            ampstore.FileDatabase(shared / "c") as database,
            maintenance_lock(shared / "c.ampdb", 1),
            database.claims().kept(),
            database.store.batch(),
        ):
            database.store["uncommitted"] = 1
            os.write(ready[1], b"x")
            os.read(done[0], 1)  # until the parent closes its end
        os._exit(0)
    assert os.read(ready[0], 1) == b"x"
    try:
        as_user(BOB, BOB, 0o022, bob)
    finally:
        for descriptor in (*ready, *done):
            os.close(descriptor)
        os.waitpid(holder, 0)


@needs_root
def test_a_private_store_stays_private(shared):
    """Under umask 077 others get a named error, not a value."""
    shared.chmod(0o2777)

    def alice():
        with ampstore.Store(shared / "a.db", "c") as store:
            store["a"] = 1

    def bob():
        with pytest.raises(AccessError):
            ampstore.Store(shared / "a.db", "r")

    as_user(ALICE, GROUP, 0o077, alice)
    as_user(BOB, BOB, 0o022, bob)


def test_no_variable_of_ours_runs_code_when_a_store_is_used(tmp_path):
    """Every AMPSTORE_ variable that the code names is set to a program: opening, reading, verifying start none."""
    names = {
        name for path in (ROOT / "ampstore").rglob("*.py") for name in re.findall(r"AMPSTORE_[A-Z_]+", path.read_text())
    }
    assert "AMPSTORE_PYTHON" in names
    program = tmp_path / "evil"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    with ampstore.FileDatabase(tmp_path / "c") as database:
        database["a"] = 1
    code = "import sys, ampstore\nwith ampstore.FileDatabase(sys.argv[1]) as d: d['b'] = 2; print(d['a'])"
    given = {name: str(program) for name in names - {"AMPSTORE_COMPLETE", "AMPSTORE_NETWORK_FS"}}  # refused by name
    for command in (["-c", code], ["-m", "ampstore", "verify"]):
        done = subprocess.run(
            [sys.executable, *command, str(tmp_path / "c")],
            env={**os.environ, **given},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()


# -- symbolic links --------------------------------------------------------------------------------


@pytest.fixture
def container(tmp_path):
    with ampstore.FileDatabase(tmp_path / "c") as database:
        database["a"] = 1
    return tmp_path / "c.ampdb"


@pytest.mark.parametrize("part", ["store.sqlite3", "loose", "archive.tar.gz"])
def test_a_link_in_the_place_of_a_tier_is_refused_by_name(container, tmp_path, part):
    """It would lead out of the container: reading, writing and the command say so, and what it names is untouched."""
    outside = tmp_path / "outside"
    if (container / part).exists():
        (container / part).rename(outside)
    else:
        outside.write_bytes(b"precious")
    before = outside.read_bytes() if outside.is_file() else sorted(outside.iterdir())
    (container / part).symlink_to(outside)
    for flag in ("r", None):
        with pytest.raises(AccessError, match="symbolic link"), ampstore.FileDatabase(container, flag) as database:
            database.keys()
    with pytest.raises(AccessError, match="symbolic link"), ampstore.FileDatabase(container) as database:
        database["b"] = 2
    assert CliRunner().invoke(main, ["ls", str(container)]).exit_code == 3
    assert before == (outside.read_bytes() if outside.is_file() else sorted(outside.iterdir()))


def test_a_link_in_the_place_of_the_lock_is_not_followed(container, tmp_path):
    """Following it would empty what it names."""
    (tmp_path / "precious").write_text("mine")
    (container / "store.lock").unlink(missing_ok=True)
    (container / "store.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(AccessError), ampstore.FileDatabase(container) as database:
        database.archive()
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_loose_file_that_is_a_link_is_no_entry_and_is_replaced_not_followed(container, tmp_path):
    """Reading skips it; setting its key leaves what it names alone."""
    (tmp_path / "secret").write_bytes(pickle.dumps("secret", 0))
    (container / "loose" / "k").symlink_to(tmp_path / "secret")
    with ampstore.FileDatabase(container) as database:
        assert "k" not in database
        database["k"] = 1
        assert database["k"] == 1
    with ampstore.LegacyDatabase(container) as legacy:
        legacy["k"] = 2
        assert not (container / "loose" / "k").is_symlink()
    assert pickle.loads((tmp_path / "secret").read_bytes()) == "secret"


def test_the_container_as_a_whole_may_be_a_link(container, tmp_path):
    """That is the user's own choice: a scratch disk, say."""
    (tmp_path / "elsewhere.ampdb").symlink_to(container)
    with ampstore.FileDatabase(tmp_path / "elsewhere") as database:
        assert database["a"] == 1
        database["b"] = 2
