"""The morning: few are at work, then all log in at once, then it calms down.

Each logs in for platform + crm, works a moment, logs out and comes again; there are fewer seats than people, so denials
are part of it. What it asks: how long does a login take when everybody wants one.
"""

from __future__ import annotations

from typing import Any

from locust import LoadTestShape, between, task

from loadtests.broker_user import BrokerUser

RUSH_BEGIN, RUSH_END = 0.25, 0.75
"""Parts of the run time."""

CALM_SHARE = 0.2


class Morning(LoadTestShape):
    """A fifth of the users, then all of them within a second, then a fifth again."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        """Users wanted now, and how many of them start a second; None ends the run."""
        assert self.runner is not None, "locust sets the runner before it asks"
        options: Any = self.runner.environment.parsed_options
        part = float(self.get_run_time()) / options.run_time  # type: ignore[no-untyped-call]
        if part >= 1:
            return None
        is_rush = RUSH_BEGIN <= part < RUSH_END
        count = options.num_users if is_rush else max(1, round(options.num_users * CALM_SHARE))
        return count, float(options.num_users)


class Worker(BrokerUser):
    """Somebody with a workplace of the CRM."""

    wait_time = between(0.5, 1.5)

    @task
    def work(self) -> None:
        """Logs in, renews once, logs out."""
        if self.open(self.open_request(("platform", "crm"))) is not None:
            self.renew()
            self.close()
