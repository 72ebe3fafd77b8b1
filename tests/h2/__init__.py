"""The HTTP/2 part against real gRPC clients, hostile peers, and every way in which bytes can be split."""
