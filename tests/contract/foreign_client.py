"""A client app as somebody else would write it: a script over generated stubs, run as a process of its own.

    python foreign_client.py STUBS ADDRESS INSTANCE_ID PRODUCTS [CA [CERTIFICATE PRIVATE_KEY]]

Prints one line of JSON when it is granted or denied, then holds its session until standard input ends. It must never import the
packages of this repository: it is run with only STUBS on its path.
"""

import json
import os
import sys
from pathlib import Path


def main() -> int:
    stubs, address, instance_id, products, *pem_files = sys.argv[1:]
    sys.path.insert(0, stubs)
    import grpc

    from broker.v1 import sessions_pb2, sessions_pb2_grpc, types_pb2

    assert Path(sessions_pb2.__file__).is_relative_to(stubs), sessions_pb2.__file__
    if pem_files:
        ca, *own = [Path(name).read_bytes() for name in pem_files]
        certificate, private = own or (None, None)
        credentials = grpc.ssl_channel_credentials(ca, private, certificate)
        channel = grpc.secure_channel(address, credentials)
    else:
        channel = grpc.insecure_channel(address)
    request = sessions_pb2.OpenRequest(
        request_id=os.urandom(16),
        holder=types_pb2.Holder(user="anna", host="desk-1", app="foreign/1"),
        products=[types_pb2.ProductRequest(product=product) for product in products.split(",")],
        instance_id=instance_id,
    )
    answer = sessions_pb2_grpc.SessionsStub(channel).Open(request, timeout=10)
    outcome = answer.WhichOneof("result")
    print(json.dumps({"outcome": outcome, "public_id": answer.grant.public_id}), flush=True)
    sys.stdin.read()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
