"""The storm: a compiled load generator for gRPC servers of this machine, and honest sums of what it did.

    result = run_storm(StormPlan(host="127.0.0.1", port=7600, cycle="renew", sessions=100_000))

plan (what to do), requests (bytes of the calls), engine (runs it), result (what came of it), check (against the broker's own
counters), table (for people), and `python -m loadtests.storm`, the command. The engine itself is loadtests._storm (ext/storm).
"""

from loadtests.storm.engine import BackgroundStorm, background_storm, run_storm
from loadtests.storm.plan import CYCLES, StormPlan
from loadtests.storm.result import Fault, Latency, StormResult

__all__ = [
    "CYCLES",
    "BackgroundStorm",
    "Fault",
    "Latency",
    "StormPlan",
    "StormResult",
    "background_storm",
    "run_storm",
]
