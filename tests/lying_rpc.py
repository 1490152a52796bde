#!/usr/bin/env python3
"""An RPC that lies in one way at a time, before an honest one: lying_rpc.py PORT UPSTREAM_URL MODE_FILE.

The mode file holds one word, read for every request: honest, header, genesis, proof, value, receipt, chain, slow, cut, junk,
status, id, null, huge; behind: the state of no block is found, for two seconds from the first time it is asked for; lost: for
ever. Writes "ready" once it listens. For tests/bad_input.sh; uses the standard library only."""
import http.server
import json
import sys
import time
import urllib.request

PORT, UPSTREAM, MODE = int(sys.argv[1]), sys.argv[2], sys.argv[3]


def mode():
    with open(MODE) as f:
        return f.read().strip()


def flip(text):
    """Another last hex digit."""
    return text[:-1] + ("1" if text[-1] == "0" else "0")


first_asked = None


def behind(how, method):
    global first_asked
    if how not in ("behind", "lost"):
        first_asked = None
        return False
    if method != "eth_getProof":
        return False
    first_asked = first_asked or time.time()
    return how == "lost" or time.time() < first_asked + 2


def lie(how, method, answer):
    result = answer.get("result")
    if behind(how, method):
        del answer["result"]
        answer["error"] = {"code": -32001, "message": "Resource not found"}
    elif how == "id":
        answer["id"] = 999999
    elif how == "null":
        answer["result"] = None
    elif how == "chain" and method == "eth_chainId":
        answer["result"] = "0x1"
    elif how == "header" and method.startswith("eth_getBlockBy") and result:
        result["stateRoot"] = flip(result["stateRoot"])
    elif how == "proof" and method == "eth_getProof":
        result["accountProof"][0] = flip(result["accountProof"][0])
    elif how == "value" and method == "eth_getProof":
        result["balance"] = flip(result["balance"])
    elif how == "receipt" and method == "eth_getBlockReceipts":
        result[0]["status"] = "0x0" if result[0]["status"] == "0x1" else "0x1"
    elif how == "receipt" and method == "eth_getTransactionReceipt":
        result["status"] = "0x0" if result["status"] == "0x1" else "0x1"
    return answer


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def send(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        how = mode()
        try:
            if how == "slow":
                time.sleep(120)
            if how == "cut":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b'{"jsonrpc":')
                self.close_connection = True
                return
            if how == "junk":
                return self.send(200, b"<html>Bad gateway</html>")
            if how == "status":
                return self.send(502, b"<html>Bad gateway</html>")
            if how == "huge":
                self.send_response(200)
                self.send_header("Content-Length", str(1 << 40))
                self.end_headers()
                while True:
                    self.wfile.write(b" " * 65536)
            asked = json.loads(body)
            request = urllib.request.Request(UPSTREAM, data=body, headers={"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=30) as reply:
                answer = json.loads(reply.read())
            if isinstance(asked, list):
                methods = {a["id"]: a["method"] for a in asked}
                answer = [lie(how, methods.get(a["id"], ""), a) for a in answer]
            else:
                answer = lie(how, asked["method"], answer)
            self.send(200, json.dumps(answer).encode())
        except OSError:
            self.close_connection = True


server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
server.daemon_threads = True
print("ready", flush=True)
server.serve_forever()
