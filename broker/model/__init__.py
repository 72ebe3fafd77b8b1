"""The values that the parts of the broker exchange: terms, answers, events. No behaviour, no I/O."""
