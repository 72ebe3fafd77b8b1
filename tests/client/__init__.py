"""The client library: its decisions alone, and the whole of it against a real broker."""
