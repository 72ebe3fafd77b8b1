"""The plain-Python model of the ledger: its specification, which the lockstep suites hold the compiled ledger against."""
