"""The day: everybody is logged in, and sessions are renewed at an even pace.

Far more often than real apps would (every third of a ttl), so that a few users stand for many. Nothing may be denied,
and a session that is renewed must never be lost.
"""

from __future__ import annotations

from random import random

import gevent
from locust import constant_throughput, task

from loadtests.broker_user import BrokerUser

RENEWS_PER_S = 5.0


class Worker(BrokerUser):
    """Somebody who stays logged in."""

    wait_time = constant_throughput(RENEWS_PER_S)

    def on_start(self) -> None:
        """Logs in, at some time within the pace: locust starts users in batches, and nothing is even about a batch."""
        gevent.sleep(random() / RENEWS_PER_S)
        self.open(self.open_request(("platform",)))

    @task
    def keep_on_working(self) -> None:
        """Renews; logs in again if there was no seat."""
        if self.session_id:
            self.renew()
        else:
            self.open(self.open_request(("platform",)))

    def on_stop(self) -> None:
        """Logs out."""
        self.close()
