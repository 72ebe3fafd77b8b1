"""Starts `usher serve` as systemd does with socket activation: sockets bound and listening before the broker exists, passed as descriptors from 3 on.

    python launcher.py NAMES ADDRESS ADDRESS ... -- COMMAND ...

NAMES is what goes into LISTEN_FDNAMES. Prints where it listens, a JSON list, then becomes the command.
"""

import json
import os
import socket
import sys

FIRST = 3


def main(words: list[str]) -> None:
    cut = words.index("--")
    names, addresses, command = words[0], words[1:cut], words[cut + 1 :]
    listening = [socket.create_server((host, int(port))) for host, port in (one.split(":") for one in addresses)]
    where = [f"127.0.0.1:{one.getsockname()[1]}" for one in listening]
    print(json.dumps(where), flush=True)
    held = [os.dup(one.fileno()) for one in listening]
    above = [os.dup2(one, 100 + number) for number, one in enumerate(held)]
    for number, one in enumerate(above):
        os.dup2(one, FIRST + number)
    os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(above)), "LISTEN_FDNAMES": names}
    config = os.environ.pop("USHER_TEST_CONFIG", "")
    if config:  # the ports are known only now
        with open(config, "r+") as file:
            text = file.read()
            for number, one in enumerate(where):
                text = text.replace(f"ADDRESS_{number}", one)
            file.seek(0)
            file.write(text)
            file.truncate()
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
