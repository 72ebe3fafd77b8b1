"""What can be wrong with a machine that runs a broker, and what to do about it: one module a subject, each finding with its remedy.

`checks` runs them all. Each check only looks; nothing is changed, bound or opened for writing. What it looks at is below one root
directory or is passed in, so that tests can stand a machine up in a folder. Main thread of a command.
"""

from broker.doctor.checks import Patient, examine
from broker.doctor.finding import Finding, Severity

__all__ = ["Finding", "Patient", "Severity", "examine"]
