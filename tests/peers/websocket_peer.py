"""The `websockets` library as client and server of the proxy.

    websocket_peer.py serve                       prints its port, serves until standard input ends
    websocket_peer.py call PLAIN TLS ROOT HOST    talks through both doors of the proxy, prints `ok N`
"""

import asyncio
import os
import ssl
import sys

import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve as listen

BIG = os.urandom(1 << 20)


async def echo(socket):
    try:
        async for message in socket:
            if message == "close 4000":
                return await socket.close(4000, "as asked")
            if message == "ping me":
                await asyncio.wait_for(await socket.ping(b"are you there"), 20)
                message = "pong came"
            await socket.send(message)
    except websockets.ConnectionClosed:
        pass


def which(connection, request):
    if request.path == "/refused":
        return connection.respond(403, "no")


async def serve():
    async with listen(echo, "127.0.0.1", 0, max_size=None, process_request=which, subprotocols=["chat"]) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def checks(url, host, port, context):
    done = 0

    def same(found, wanted, what):
        nonlocal done
        assert found == wanted, f"{what}: {found!r}, not {wanted!r}"
        done += 1

    options = dict(host="127.0.0.1", port=port, max_size=None, open_timeout=20, proxy=None, ssl=context,
                   subprotocols=["chat"])
    if context:
        options["server_hostname"] = host
    async with connect(url + "/", **options) as socket:
        same(socket.subprotocol, "chat", "the subprotocol")
        for message in ["text", "", "ümlaut", b"\x00\xff", BIG, BIG.hex()]:
            await socket.send(message)
            same(await asyncio.wait_for(socket.recv(), 20), message, "an echo")
        # A message in fragments.
        await socket.send(part for part in ["one ", "two ", "three"])
        same(await asyncio.wait_for(socket.recv(), 20), "one two three", "fragments")
        await asyncio.wait_for(await socket.ping(b"hello"), 20)
        await socket.send("ping me")
        same(await asyncio.wait_for(socket.recv(), 20), "pong came", "a ping of the server's")
        for at in range(200):
            await socket.send(str(at))
        same([await socket.recv() for _ in range(200)], [str(at) for at in range(200)], "pipelined messages")
        await socket.close(4001, "from the client")
    same(socket.close_code, 4001, "the client's close code")
    async with connect(url + "/", **options) as socket:
        await socket.send("close 4000")
        try:
            await asyncio.wait_for(socket.recv(), 20)
            raise AssertionError("not closed")
        except websockets.ConnectionClosed as closed:
            same((closed.rcvd.code, closed.rcvd.reason), (4000, "as asked"), "the server's close code")
    try:
        await connect(url + "/refused", **options)
        raise AssertionError("not refused")
    except websockets.InvalidStatus as refused:
        same(refused.response.status_code, 403, "a refusal")
    return done


async def call(plain, tls, root, host):
    context = ssl.create_default_context(cafile=root)
    context.set_alpn_protocols(["http/1.1"])
    done = await checks(f"ws://{host}", host, int(plain), None)
    done += await checks(f"wss://{host}", host, int(tls), context)
    print("ok", done)


if __name__ == "__main__":
    asyncio.run(serve() if sys.argv[1] == "serve" else call(*sys.argv[2:]))
