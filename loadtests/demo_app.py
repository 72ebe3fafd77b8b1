"""A client app that logs in and works until it is killed: the demo's victim.

    python -m loadtests.demo_app TARGET USER PRODUCT...

Prints its session's public id on one line, then renews in the background and waits for its end.
"""

from __future__ import annotations

import signal
import sys

from broker import client


def main(target: str, user: str, *products: str) -> int:
    """Opens a session and holds it; the exit status 0 after SIGTERM, 1 if there is no seat."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        with client.open(target, user=user, products=products) as session:
            print(session.public_id, flush=True)
            signal.sigwait([signal.SIGTERM])
    except client.UsherError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
