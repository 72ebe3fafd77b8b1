"""Tests of the gRPC servers' own behaviour, over real sockets."""
