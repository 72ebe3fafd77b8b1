"""The parts of the bench, a module each: `measure(bench)` gives a Finding."""
