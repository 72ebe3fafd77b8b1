"""The suites of Usher; `tests.support` holds what they share."""
