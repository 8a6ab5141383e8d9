"""gRPC's own Python implementation as client and server of the proxy, without protobuf: messages are bytes.

    grpc_peer.py serve                       prints its port, serves until standard input ends
    grpc_peer.py call PLAIN TLS ROOT HOST    calls through both doors of the proxy, prints `ok N`
"""

import sys
import threading
import time
from concurrent import futures

import grpc

BIG = bytes(range(256)) * 4 * 4096  # 4 MiB
LIMITS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
cancelled = threading.Event()


class Handler(grpc.GenericRpcHandler):
    def service(self, call):
        method = call.method.rsplit("/", 1)[1]
        return {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Fails": grpc.unary_unary_rpc_method_handler(self.fails),
            "Slow": grpc.unary_unary_rpc_method_handler(self.slow),
            "Cancelled": grpc.unary_unary_rpc_method_handler(self.cancelled),
            "Deadline": grpc.unary_unary_rpc_method_handler(self.deadline),
            "Count": grpc.stream_unary_rpc_method_handler(self.count),
            "Many": grpc.unary_stream_rpc_method_handler(self.many),
            "Endless": grpc.unary_stream_rpc_method_handler(self.endless),
            "Both": grpc.stream_stream_rpc_method_handler(self.both),
        }.get(method)

    def unary(self, request, context):
        context.set_trailing_metadata((("x-end", "trailer"), ("x-end-bin", b"\x00\xff")))
        return request

    def fails(self, request, context):
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "words with % and ä")

    def slow(self, request, context):
        time.sleep(60)
        return request

    def deadline(self, request, context):
        return str(context.time_remaining()).encode()

    def cancelled(self, request, context):
        return b"yes" if cancelled.wait(20) else b"no"

    def count(self, requests, context):
        return str(sum(1 for _ in requests)).encode()

    def many(self, request, context):
        for at in range(int(request)):
            yield str(at).encode()

    def endless(self, request, context):
        context.add_callback(cancelled.set)
        while context.is_active():
            yield b"x"
            time.sleep(0.01)

    def both(self, requests, context):
        yield from requests


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(16), handlers=[Handler()], options=LIMITS)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(0)


def checks(channel):
    done = 0

    def same(found, wanted, what):
        nonlocal done
        assert found == wanted, f"{what}: {found!r}, not {wanted!r}"
        done += 1

    path = "/peer.Peer/"
    unary = channel.unary_unary(path + "Unary")
    answer, call = unary.with_call(b"hello", timeout=20, metadata=(("x-sent-bin", b"\x00\x01"),))
    same(answer, b"hello", "unary")
    same(dict(call.trailing_metadata())["x-end"], "trailer", "trailing metadata")
    same(dict(call.trailing_metadata())["x-end-bin"], b"\x00\xff", "binary trailing metadata")
    same(unary(b"", timeout=20), b"", "an empty message")
    same(unary(BIG, timeout=60), BIG, "a big message")
    same([f.result() for f in [unary.future(b"%d" % at, timeout=30) for at in range(200)]],
         [b"%d" % at for at in range(200)], "many at once")
    try:
        channel.unary_unary(path + "Fails")(b"", timeout=20)
        raise AssertionError("no error")
    except grpc.RpcError as error:
        same((error.code(), error.details()), (grpc.StatusCode.FAILED_PRECONDITION, "words with % and ä"), "a status")
    try:
        channel.unary_unary(path + "Nothing")(b"", timeout=20)
        raise AssertionError("no error")
    except grpc.RpcError as error:
        same(error.code(), grpc.StatusCode.UNIMPLEMENTED, "an unknown method")
    begun = time.monotonic()
    try:
        channel.unary_unary(path + "Slow")(b"", timeout=0.5)
        raise AssertionError("no error")
    except grpc.RpcError as error:
        same(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED, "a deadline")
        assert time.monotonic() - begun < 20
    left = float(channel.unary_unary(path + "Deadline")(b"", timeout=1000))
    same(900 < left <= 1100, True, f"the deadline is passed on ({left})")
    same(channel.stream_unary(path + "Count")(iter([b"a", b"b", b"c"]), timeout=20), b"3", "a client's stream")
    same(channel.stream_unary(path + "Count")(iter([]), timeout=20), b"0", "an empty stream")
    same(list(channel.unary_stream(path + "Many")(b"1000", timeout=30)), [b"%d" % at for at in range(1000)],
         "a server's stream")
    # Each message is sent when the one before has come back.
    back = threading.Semaphore(1)

    def ask():
        for at in range(50):
            assert back.acquire(timeout=20)
            yield b"%d" % at

    got = []
    for message in channel.stream_stream(path + "Both")(ask(), timeout=30):
        got.append(message)
        back.release()
    same(got, [b"%d" % at for at in range(50)], "both ways")
    same(list(channel.stream_stream(path + "Both")(iter([BIG] * 4), timeout=60)), [BIG] * 4, "much both ways")
    stream = channel.unary_stream(path + "Endless")(b"", timeout=60)
    next(stream)
    stream.cancel()
    same(channel.unary_unary(path + "Cancelled")(b"", timeout=30), b"yes", "the server hears of a cancellation")
    return done


def call(plain, tls, root, host):
    done = 0
    with grpc.insecure_channel(f"127.0.0.1:{plain}", [*LIMITS, ("grpc.default_authority", host)]) as channel:
        done += checks(channel)
    with open(root, "rb") as file:
        trusted = grpc.ssl_channel_credentials(file.read())
    options = [*LIMITS, ("grpc.ssl_target_name_override", host), ("grpc.default_authority", host)]
    with grpc.secure_channel(f"127.0.0.1:{tls}", trusted, options) as channel:
        done += checks(channel)
    print("ok", done)


if __name__ == "__main__":
    serve() if sys.argv[1] == "serve" else call(*sys.argv[2:])
