"""The wire codec against protobuf and the verbs of the grpcio data plane, which are its reference."""
