"""The data plane over real sockets: bounds, drains, answers, streams, by clients that we did not write and peers that mean harm."""
