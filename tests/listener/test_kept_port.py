"""A listening socket that another process has, too: a drain leaves its queue to that one, and shuts it down where there is none."""

import contextlib
import socket

import pytest

from tests.listener.harness import S, serving


def test_connections_that_come_in_a_drain_wait_for_who_else_has_the_socket() -> None:
    with serving() as served, socket.socket(fileno=served.listening.dup().detach()) as other:
        served.listener.keep_port()
        served.listener.drain(30 * S)
        served.join()
        with served.connect() as late:
            other.setblocking(True)
            accepted, _ = other.accept()
            with accepted:
                late.sendall(b"here")
                assert accepted.recv(4) == b"here"


def test_without_another_process_the_queue_is_not_left_waiting() -> None:
    with serving() as served, contextlib.closing(served.listening.dup()):
        served.listener.drain(30 * S)
        served.join()
        with pytest.raises(ConnectionRefusedError):
            served.connect()
