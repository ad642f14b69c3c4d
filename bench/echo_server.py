"""A bare gRPC server that answers every call with the same bytes: what the transport alone costs.

Run as ``python -m bench.echo_server PORT REPLY_BYTES``; ``/bench.Echo/Call`` is its one method.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator

import grpc

from bench.machine import ROOT
from bench.serving import free_port, stop

METHOD = "/bench.Echo/Call"
_START_SECONDS = 30.0


async def serve(port: int, reply: bytes) -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)

    async def answer(request: bytes, context: object) -> bytes:
        return reply

    handler = grpc.method_handlers_generic_handler("bench.Echo", {"Call": grpc.unary_unary_rpc_method_handler(answer)})
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((handler,))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await stopping.wait()
    await server.stop(None)


@contextlib.contextmanager
def echoing(reply_bytes: int) -> Iterator[str]:
    """The address of an echo server in its own process; always stopped."""
    port = free_port()
    child = subprocess.Popen([sys.executable, "-m", "bench.echo_server", str(port), str(reply_bytes)], cwd=ROOT)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            grpc.channel_ready_future(channel).result(_START_SECONDS)
        yield f"127.0.0.1:{port}"
    finally:
        stop(child)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), bytes(int(sys.argv[2]))))
