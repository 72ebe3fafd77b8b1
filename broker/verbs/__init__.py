"""The verbs of the broker: protobuf messages in, protobuf messages out, over the ledger.

Knows no gRPC and no HTTP, so that the gRPC services and the JSON door are two doors to one piece of logic, and so that
another data plane can be held against it. All of it runs on the event loop's thread and never blocks: a verb
costs microseconds.
"""
