"""What the log looks like, to a machine and to a person."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from broker.app.logs import QUIET_LOGGERS, facts, set_up_logs


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _root_logger_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in QUIET_LOGGERS}
    yield
    root.handlers[:], root.level = handlers, level
    for name, one in levels.items():
        logging.getLogger(name).setLevel(one)


def test_pipe_gets_one_json_object_a_line() -> None:
    stream = io.StringIO()
    set_up_logs("info", "auto", stream)
    logging.getLogger("broker.app").info("serving", extra=facts(clients="127.0.0.1:1", pid=7))
    line = json.loads(stream.getvalue())
    assert line["time"].endswith("Z")
    del line["time"]
    assert line == {"level": "info", "logger": "broker.app", "message": "serving", "clients": "127.0.0.1:1", "pid": 7}


def test_terminal_gets_short_lines() -> None:
    stream = Terminal()
    set_up_logs("info", "auto", stream)
    logging.getLogger("broker.app").info("serving", extra=facts(clients="127.0.0.1:1"))
    logging.getLogger("broker.app").warning("trouble")
    first, second = stream.getvalue().splitlines()
    assert first[8:] == " serving  clients=127.0.0.1:1"
    assert second[8:] == " WARNING trouble"


def test_form_that_is_said_goes_before_what_the_stream_is() -> None:
    stream = Terminal()
    set_up_logs("info", "json", stream)
    logging.getLogger("x").info("a")
    assert json.loads(stream.getvalue())["message"] == "a"


def test_exception_stays_on_its_json_line() -> None:
    stream = io.StringIO()
    set_up_logs("info", "json", stream)
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("x").exception("failed")
    (line,) = stream.getvalue().splitlines()
    assert "ValueError: why" in json.loads(line)["trace"]


def test_control_characters_reach_no_terminal() -> None:
    stream = Terminal()
    set_up_logs("info", "human", stream)
    logging.getLogger("x").info("user \x1b[31m%s", "a\nb", extra=facts(host="\x07"))
    text = stream.getvalue()
    assert "\x1b" not in text
    assert "\x07" not in text
    assert text.count("\n") == 1


def test_fact_cannot_replace_what_a_line_says_of_itself() -> None:
    stream = io.StringIO()
    set_up_logs("info", "json", stream)
    logging.getLogger("x").info("a", extra=facts(level="none", message="b"))
    line = json.loads(stream.getvalue())
    assert (line["level"], line["message"]) == ("info", "a")


def test_level_is_the_least_that_is_said_and_libraries_are_quieter() -> None:
    stream = io.StringIO()
    set_up_logs("info", "json", stream)
    logging.getLogger("broker.app").debug("detail")
    logging.getLogger("uvicorn.access").info("GET /metrics")
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    assert stream.getvalue() == ""
