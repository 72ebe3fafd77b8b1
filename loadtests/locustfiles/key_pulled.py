"""Logins and work while a security key is pulled and plugged back, again and again (by the runner).

Sessions that are open must go on: their renewals never fail, some are told of key grace. Newcomers are denied while
there is a deficit. Nothing of this is a failure.
"""

from __future__ import annotations

from locust import between, task

from broker.v1 import types_pb2
from loadtests.broker_user import BrokerUser, Outcome

RENEWS_PER_VISIT = 8


class Worker(BrokerUser):
    """Somebody who stays for a few seconds."""

    wait_time = between(0.1, 0.4)

    def on_start(self) -> None:
        """Nobody is in yet."""
        self.renews_left = 0

    @task
    def step(self) -> None:
        """Logs in, or works on, or logs out: one step each time, so that the run can end between any two."""
        if not self.session_id:
            self.open(self.open_request(("platform",)))
            self.renews_left = RENEWS_PER_VISIT
        elif self.renews_left:
            self.renews_left -= 1
            self.look_at_leases()
        else:
            self.close()

    def look_at_leases(self) -> None:
        """A renewal; news of key grace gets a row of its own, beside it."""
        answer = self.renew()
        states = [lease.state for lease in answer.changed] if answer is not None else []
        if types_pb2.LEASE_STATE_KEY_GRACE in states:
            self.call("lease in key grace", lambda *_, **__: answer, types_pb2.Holder(), lambda _: Outcome("notice"))

    def on_stop(self) -> None:
        """Logs out."""
        self.close()
