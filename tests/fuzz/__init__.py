"""Fuzzing of the layers without I/O: under sanitizers as C programs, and against protobuf; see tools/fuzz.py."""
