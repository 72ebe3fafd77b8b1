# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True
"""The HTTP/2 part as a module of its own: what tests and tools drive from Python. The product includes h2.pxi instead."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize

include "h2.pxi"
include "h2_face.pxi"
