"""Tests of the verbs over the compiled ledger."""
