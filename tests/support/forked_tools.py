"""dissect's tools and ours without their start, which is two seconds for each: for tests that run many commands in a shell.

``serve`` has loaded dissect and all its plugins, and forks for each command; ``write_commands`` puts small commands of the
same names into a folder for ``PATH``, which hand their arguments, files, folder and environment over and end as it ends.
What runs then is the same ``main`` with a process of its own. Only where there is ``fork``.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from importlib.metadata import entry_points
from pathlib import Path

TOOLS = ("dissect-sesparse", "rdump", "target-dd", "target-fs", "target-info", "target-mount", "target-query")
COMMAND = """\
#!/bin/sh
# What starts processes of its own is started as it is, and so is what asks for another start.
if [ "$1" = fleet ] || [ -n "${{DISSECT_SESPARSE_AUTOLOAD:-}}" ]; then exec "{real}" "$@"; fi
exec "{python}" -I -S "{here}" "{address}" {name} "$@"
"""


def write_commands(folder: Path, address: Path) -> None:
    """Write the commands that ask the server at an address."""
    folder.mkdir()
    for name in TOOLS:
        real = Path(sys.executable).parent / name
        if real.exists():
            path = folder / name
            path.write_text(
                COMMAND.format(real=real, python=sys.executable, here=Path(__file__), address=address, name=name)
            )
            path.chmod(0o755)


def serve(address: str) -> None:
    """Wait for commands, and fork for each. Says ``ready`` when it listens."""
    from dissect.target.plugin import plugins

    list(plugins())
    mains = {name: entry_points(group="console_scripts", name=name) for name in TOOLS}
    loaded = {name: next(iter(found)).load() for name, found in mains.items() if found}
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(address)
        server.listen()
        print("ready", flush=True)
        while True:
            connection, _ = server.accept()
            data, files, _, _ = socket.recv_fds(connection, 1 << 20, 3)
            if os.fork() == 0:
                server.close()
                _be(connection, files, loaded, **json.loads(data))
                return
            for file in files:
                os.close(file)
            connection.close()


def _be(connection: socket.socket, files: list[int], loaded: dict, argv: list, cwd: str, env: dict) -> None:
    """Be the command; a process between tells how it ended, so that it can end as all do, with all files flushed."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if child := os.fork():
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        connection.sendall(bytes([code & 0xFF]))
        os._exit(0)
    connection.close()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = argv
    sys.exit(loaded[argv[0]]())


def ask(address: str, argv: list[str]) -> int:
    """Let the server run a command, and say how it ended."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(address)
        told = {"argv": argv, "cwd": os.getcwd(), "env": dict(os.environ)}
        socket.send_fds(connection, [json.dumps(told).encode()], [0, 1, 2])
        ended = connection.recv(1)
    return ended[0] if ended else 1


if __name__ == "__main__":
    if len(sys.argv) == 2:
        serve(sys.argv[1])
    else:
        sys.exit(ask(sys.argv[1], sys.argv[2:]))
