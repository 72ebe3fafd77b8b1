"""Locust's own ceiling: users that do nothing but Renew, without a pause, at a server that does nothing.

What comes out is how fast one process of locust can be with this client; a scenario near it has measured locust.
"""

from __future__ import annotations

from locust import constant, task

from loadtests.broker_user import BrokerUser


class Hasty(BrokerUser):
    """Never waits."""

    wait_time = constant(0)

    def on_start(self) -> None:
        """Nothing at that server looks at the id."""
        self.session_id = bytes(32)

    @task
    def renew_at_once(self) -> None:
        """The cheapest call."""
        self.renew()
