"""The gRPC services over the verbs: Sessions on the client port, Admin on its own, health and reflection on both.

The only part of the broker, beside `broker.client`, that knows gRPC. It translates and guards; what a call means is decided
in `broker.verbs`.
"""
