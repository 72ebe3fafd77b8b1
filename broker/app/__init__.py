"""The broker as a process: configuration, data directory, and the building, running and stopping of all parts.

Start at `broker.py` (what is built, in which order), `config.py` (every setting and its default), `shutdown.py` (how it ends).
"""
