"""What Amp programs write to: lines, timers, and the way from and to stdlib logging."""

import io
import logging
import pickle
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ampstore.errors import TimerError
from ampstore.log import Logger, LoggerHandler, as_log, elapsed_text, logging_into, now


def test_what_nobody_listens_to_imports_no_logging():
    """And whoever listens later hears what is said then, under the name of the module that says it."""
    program = (
        "import sys; from ampstore import shelf\n"
        "shelf.log.warning('unheard %s', 1); assert 'logging' not in sys.modules\n"
        "import logging; shelf.log.warning('nobody gave a handler')\n"
        "logging.basicConfig(stream=sys.stdout, format='%(name)s %(funcName)s %(message)s', level='INFO')\n"
        "def here(): shelf.log.info('heard %s', 2)\n"
        "here(); shelf.log.debug('below the level')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("ampstore.shelf here heard 2\n", "")


class Clock:
    """A clock that the test sets."""

    def __init__(self):
        self.time = 1000.0

    def __call__(self):
        return self.time


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def page(clock):
    """A Logger that writes to memory."""
    return Logger(io.StringIO(), clock=clock)


def text(logger):
    return logger.file.getvalue()


def test_none_logs_nothing_and_accepts_everything():
    """A Logger(None) takes any call, also those that a real one refuses."""
    log = Logger(None)
    assert log.file is None and log.filename is None
    log("a", toc="never started")
    log("a", toc=True, tic=True, check=True)
    log(42)
    log.tic("a")
    log.tic()
    log.close()


@pytest.mark.parametrize("kind", [str, Path])
def test_path_is_opened_for_appending(tmp_path, kind):
    """A second Logger of the same path goes on where the first stopped."""
    path = tmp_path / "a.log"
    for n in range(2):
        with Logger(kind(path)) as log:
            log(f"line {n} µ")
            assert log.filename == str(path)
            assert path.read_text(encoding="utf-8").endswith(f"line {n} µ\n")
    assert path.read_text(encoding="utf-8") == "line 0 µ\nline 1 µ\n"


def test_overwrite_empties_the_file(tmp_path):
    """overwrite=True is Amp 1.x's way to start anew."""
    path = tmp_path / "a.log"
    path.write_text("old\n")
    with Logger(path, overwrite=True) as log:
        log("new")
    assert path.read_text() == "new\n"


def test_file_that_was_closed_is_opened_again(tmp_path):
    """A line after close() is appended."""
    log = Logger(tmp_path / "a.log")
    log("one")
    log.file.close()
    log("two")
    log.close()
    log.close()
    assert (tmp_path / "a.log").read_text() == "one\ntwo\n"


def test_file_object_stays_its_owners(capsys):
    """A file object is written to, has no filename, and is not closed."""
    log = Logger(sys.stdout)
    log("hello")
    log.close()
    assert log.filename is None and log.file is sys.stdout
    assert capsys.readouterr().out == "hello\n"


def test_closed_file_object_is_a_value_error():
    """What the user closed is not opened again behind the user's back."""
    log = Logger(io.StringIO())
    log.file.close()
    with pytest.raises(ValueError, match="closed file"):
        log("a")


def test_missing_directory_is_known_at_once(tmp_path):
    """The error comes when the Logger is made."""
    with pytest.raises(FileNotFoundError):
        Logger(tmp_path / "none" / "a.log")


def test_other_targets_and_messages_are_type_errors(page):
    """What cannot be written to, or is no text, is named."""
    with pytest.raises(TypeError, match="not int"):
        Logger(3)
    with pytest.raises(TypeError, match="not list"):
        page([])
    assert text(page) == ""


def test_flush_can_wait(tmp_path):
    """flush=False leaves the line in the buffer."""
    with Logger(tmp_path / "a.log") as log:
        log("a", flush=False)
        assert (tmp_path / "a.log").read_text() == ""
        log("b")
        assert (tmp_path / "a.log").read_text() == "a\nb\n"


TIMES = [
    (306, " 5.1 min."),
    (60.0001, " 1.0 min."),
    (60, " 60.0 s"),
    (1.5, " 1.5 s"),
    (1, " 1000.0 ms"),
    (0.5, " 500.0 ms"),
    (0.001, " 1000.0 us"),
    (2.1e-6, " 2.1 us"),
    (0, " 0.0 us"),
]


def test_time_text_has_amps_units():
    """A blank, one decimal, the unit; a full stop after min. alone."""
    for seconds, expected in TIMES:
        assert elapsed_text(seconds) == expected


def test_toc_appends_the_time_since_tic(page, clock):
    """Named and unnamed timers run side by side; both forms of starting work."""
    page.tic("train")
    page("start", tic=True)
    clock.time += 1.5
    page("unnamed", toc=True)
    clock.time += 304.5
    page("named", toc="train")
    page("plain")
    assert text(page) == "start\nunnamed 1.5 s\nnamed 5.1 min.\nplain\n"


def test_positional_form_of_0_6_1_is_taken(page, clock):
    """(message, toc, tic) by position, with None for no toc."""
    page("a", None, "x")
    clock.time += 2
    page("b", "x", True)
    clock.time += 3
    page("c", True)
    assert text(page) == "a\nb 2.0 s\nc 3.0 s\n"


def test_one_line_may_end_a_timer_and_start_it_again(page, clock):
    """A toc and a tic of one label in one call: the old time is written."""
    page.tic("a")
    clock.time += 2
    page("first", toc="a", tic="a")
    clock.time += 3
    page("second", toc="a")
    assert text(page) == "first 2.0 s\nsecond 3.0 s\n"


def test_check_leaves_the_timer_running(page, clock):
    """A check writes the time as often as wanted."""
    page("", tic="a")
    page("", tic=True)
    for _ in range(3):
        clock.time += 2
        page("check", check="a")
        page("check", check=True)
    page("toc", toc="a")
    assert text(page).split("\n")[2:] == ["check 2.0 s"] * 2 + ["check 4.0 s"] * 2 + ["check 6.0 s"] * 2 + [
        "toc 6.0 s",
        "",
    ]


def test_tics_hold_running_labels_only(page):
    """Neither check nor toc leaves anything behind in tics."""
    page("", tic="a")
    page("", tic=True)
    page("", check="a")
    page("", check=True)
    assert list(page.tics) == ["a"]
    page("", toc="a")
    page("", toc=True)
    assert page.tics == {}


def test_timer_that_is_not_running_is_named(page):
    """An unknown label is a KeyError, a toc without a tic too; nothing is written."""
    with pytest.raises(KeyError, match="'hash'"):
        page("a", toc="hash")
    with pytest.raises(TimerError, match="tic=True"):
        page("a", toc=True)
    page.tic("hash")
    page("a", toc="hash")
    with pytest.raises(KeyError):
        page("b", toc="hash")
    assert text(page).startswith("a ")
    assert str(pickle.loads(pickle.dumps(TimerError("x")))) == str(TimerError("x"))


def test_tic_of_a_running_label_starts_anew(page, clock):
    """A timer that a failed attempt left behind does not stop the next attempt."""
    page.tic("train")
    clock.time += 100
    page.tic("train")
    clock.time += 2
    page("done", toc="train")
    assert text(page) == "done 2.0 s\n"


def test_toc_and_check_together_are_refused(page):
    """A line has one time."""
    page.tic("a")
    with pytest.raises(ValueError, match="not both"):
        page("a", toc="a", check="a")


def test_lines_of_threads_do_not_mix(tmp_path):
    """Eight threads with timers of their own write whole lines."""

    def write(n):
        for _ in range(200):
            log("x" * 50, tic=f"t{n}")
            log("y" * 50, toc=f"t{n}")

    with Logger(tmp_path / "a.log") as log:
        threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert log.tics == {}
    lines = (tmp_path / "a.log").read_text().splitlines()
    assert len(lines) == 3200
    assert all(re.fullmatch(r"x{50}|y{50} [\d.]+ (us|ms|s)", line) for line in lines)


def test_lines_go_to_stdlib_logging(caplog):
    """A Logger of a logging.Logger writes at INFO, from the place of the call."""
    log = Logger(logging.getLogger("my.program"))
    assert log.file is None
    with caplog.at_level(logging.INFO):
        log("100 % of", tic="a")
        log("all", toc="a")
    assert [record.levelno for record in caplog.records] == [logging.INFO] * 2
    assert caplog.records[0].getMessage() == "100 % of"
    assert caplog.records[1].getMessage().startswith("all ")
    assert caplog.records[0].filename == Path(__file__).name


def test_stdlib_logging_goes_to_a_logger():
    """While the block lasts, what ampstore logs is written to the Amp program's log."""
    source = logging.getLogger("ampstore.backend")
    log = Logger(io.StringIO())
    before = logging.getLogger("ampstore").level
    with logging_into(log):
        source.info("folded %d files", 3)
        source.debug("unseen")
    source.info("after")
    assert text(log) == "folded 3 files\n"
    assert logging.getLogger("ampstore").level == before


def test_bridges_in_a_circle_are_refused():
    """A Logger that writes to stdlib logging cannot be the target of stdlib logging."""
    with pytest.raises(ValueError, match="already"):
        LoggerHandler(Logger(logging.getLogger("ampstore")))


def test_handler_reports_instead_of_raising(capsys):
    """A log that fails does not stop the program that logs."""
    log = Logger(io.StringIO())
    log.file.close()
    with logging_into(log):
        logging.getLogger("ampstore").info("lost")
    assert "closed file" in capsys.readouterr().err


def test_as_log_takes_whatever_is_given_as_log(page, caplog):
    """None, a Logger, any callable and a logging.Logger."""
    as_log(None)("nothing", toc="x")
    assert as_log(page) is page
    assert as_log(print) is print
    with caplog.at_level(logging.INFO):
        as_log(logging.getLogger("x"))("hello")
    assert caplog.messages == ["hello"]


def test_now_is_one_column():
    """Local time without blanks; UTC is added in parentheses."""
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", now())
    assert re.fullmatch(r"\S+ \(\S+ UTC\)", now(with_utc=True))
