"""The history: that it says what the log says, exactly once, whatever happens to who writes it."""
