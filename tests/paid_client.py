"""A paid question, altered in every part: what is not signed and covered gets no answer.

paid_client.py proxy PORT SERVER FILE   passes GET on to SERVER; keeps the first POST's body in FILE and answers it 503
paid_client.py try SERVER FILE          posts alterations of that body to SERVER, each of which must be refused in its own words, then the body
                                        itself, twice: the same answer both times. Prints its number.
"""
import copy
import http.server
import json
import sys
import urllib.error
import urllib.request


def fetch(url, body=None):
    q = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(q, timeout=120) as r:
            return r.status, r.read()
    except urllib.error.HTTPError as e:
        return e.code, e.read()


def proxy(port, server, path):
    class Handler(http.server.BaseHTTPRequestHandler):
        def reply(self, status, body):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            self.reply(*fetch(server + self.path))

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with open(path, "wb") as f:
                f.write(body)
            self.reply(503, b'{"error":{"message":"kept for the test"}}')

        def log_message(self, *a):
            pass

    http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()


def flip(sig):
    return sig[:-4] + ("00" if sig[-4:-2] != "00" else "11") + sig[-2:]


def attempt(server, path):
    good = json.load(open(path))

    def post(o):
        status, body = fetch(server + "/loam/v1/ask", json.dumps(o).encode())
        return status, json.loads(body)

    def refused(what, status, words, change):
        o = copy.deepcopy(good)
        change(o)
        got, body = post(o)
        text = body.get("error", {}).get("message", "")
        if got != status or words not in text:
            sys.exit(f"{what}: {got} {text!r}, wanted {status} with {words!r}")

    refused("no voucher", 400, "Voucher", lambda o: o.pop("voucher"))
    refused("no signature", 400, "request_signature", lambda o: o.pop("request_signature"))
    refused("request altered", 402, "request is not signed", lambda o: o["request"].update(maxFee="999"))
    refused("request's signature altered", 402, "request is not signed", lambda o: o.update(request_signature=flip(o["request_signature"])))
    refused("voucher altered", 402, "voucher is not signed", lambda o: o["voucher"].update(cumulative="1"))
    refused("voucher's signature altered", 402, "voucher is not signed", lambda o: o.update(voucher_signature=flip(o["voucher_signature"])))
    refused("another server", 402, "this server is account", lambda o: o["voucher"].update(server=99))
    refused("another payer's voucher", 402, "the voucher is account", lambda o: o["voucher"].update(payer=99))
    refused("messages altered", 402, "messages are not those", lambda o: o["messages"][0].update(content="something else"))
    refused("sampler altered", 402, "sampler is not the one", lambda o: o["sampler"].update(max_tokens=5000))
    refused("nonce altered", 402, "does not hold this server's commitment", lambda o: o.update(nonce_salt="0x" + "11" * 32))
    refused("model unknown", 404, "no adapter called", lambda o: o.update(model="nobody"))
    refused("private", 501, "not built", lambda o: o["request"].update(privacy=2))
    status, first = post(good)
    if status != 200:
        sys.exit(f"the unaltered question: {status} {first}")
    status, again = post(good)
    if status != 200 or again["id"] != first["id"] or again["output_ids"] != first["output_ids"]:
        sys.exit(f"the same question again: {status} {again}")
    print(first["id"])


if sys.argv[1] == "proxy":
    proxy(int(sys.argv[2]), sys.argv[3], sys.argv[4])
else:
    attempt(sys.argv[2], sys.argv[3])
