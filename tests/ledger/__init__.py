"""The ledger's suites: lockstep with the model, scenarios from the rules, planted errors, threads."""
