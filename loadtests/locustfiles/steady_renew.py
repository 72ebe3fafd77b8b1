"""The day: everybody is logged in, and sessions are renewed all the time.

Far more often than real apps would (every third of a ttl), so that a few users stand for many. At random moments, as those
of many real apps are: at a fixed pace one hiccup brings all users into step, and in step they stay. Nothing may be
denied, and a session that is renewed must never be lost.
"""

from __future__ import annotations

from locust import poisson, task

from loadtests.broker_user import BrokerUser

RENEWS_PER_S = 5.0


class Worker(BrokerUser):
    """Somebody who stays logged in."""

    wait_time = poisson(RENEWS_PER_S)

    def on_start(self) -> None:
        """Logs in."""
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
