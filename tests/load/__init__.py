"""That the demo and the load scenarios say what is so, and fail when it is not."""
