"""The HTTP side: metrics, health and the JSON door. Only this package knows HTTP."""
