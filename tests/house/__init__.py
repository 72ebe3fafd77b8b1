"""The rules of the house, each with a test that fails when it is broken."""
