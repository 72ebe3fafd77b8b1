"""The whole of Usher as its issues tell it: real processes, every door at once."""
