"""What the compiled parts promise beyond their rules: numbers, hashes, bounds, no GIL."""
