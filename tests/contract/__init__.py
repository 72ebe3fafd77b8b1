"""The contract of the broker's public doors: one suite, run against every implementation of them.

It knows nothing of our packages: its stubs are generated from proto/ by grpc_tools when it runs, as any client's would be. A new
data plane is a new row of IMPLEMENTATIONS (conftest.py) and must pass unchanged.
"""
