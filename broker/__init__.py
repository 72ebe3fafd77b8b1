"""Usher: a licence and session broker.

Layers, from the top: cli > app > service | web > keyring > policy | licence > model, errors, limits.
`broker.client` stands beside them and needs none of them, nor anything compiled.
"""

__version__ = "0.1.0"
