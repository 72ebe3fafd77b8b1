"""What several suites share: a real broker process, certificates, waiting for a condition."""
