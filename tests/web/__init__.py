"""Tests of the HTTP port, over real sockets."""
