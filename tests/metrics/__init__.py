"""Metrics, dashboards and alerts: that they say what is so, and that nothing names a metric that does not exist."""
