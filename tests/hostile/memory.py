"""Bytes that this process has asked malloc for and not given back: what leaks would make grow, to the byte.

nghttp2, OpenSSL and the listener take their memory from malloc. Python's small objects do not, and the ledger's records
do not either, so that neither hides a leak. The GNU C library only.
"""

from __future__ import annotations

import ctypes


class _MallInfo(ctypes.Structure):
    """struct mallinfo2 of malloc.h."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    )  # fmt: skip


_libc = ctypes.CDLL(None)
_libc.mallinfo2.restype = _MallInfo


def in_use_size() -> int:
    """Over all arenas, mapped blocks included."""
    info = _libc.mallinfo2()
    return int(info.uordblks + info.hblkhd)
