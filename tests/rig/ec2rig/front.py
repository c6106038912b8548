"""The fault layer: stands before moto, and lets through, refuses, loses, delays or spoils each call as the rules
say. The same port has the rig's own control interface, below /rig/."""
import html
import io
import json
import re
import socket
import threading
import time
import urllib.parse

from . import api, outages, paper, spot
from .faults import Call, Rules, Wrong, effect

REFUSAL = """<?xml version="1.0" encoding="UTF-8"?>
<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>\
<RequestID>00000000-0000-0000-0000-000000000000</RequestID></Response>"""

MESSAGES = {
    "InsufficientInstanceCapacity": "We currently do not have sufficient {type} capacity in the Availability Zone you "
                                    "requested ({zone}). Our system will be working on provisioning additional capacity.",
    "VcpuLimitExceeded": "You have requested more vCPU capacity than your current vCPU limit of 5 allows.",
    "Unsupported": "Your requested instance type ({type}) is not supported in your requested Availability Zone ({zone}).",
    "RequestLimitExceeded": "Request limit exceeded.",
    "Throttling": "Rate exceeded",
    "InternalError": "An internal error has occurred",
    "SpotMaxPriceTooLow": "Your Spot request price is lower than the minimum required Spot request fulfillment price.",
}
# As EC2 answers them: the status does not say what the code means.
STATUSES = {
    "InsufficientInstanceCapacity": 500, "RequestLimitExceeded": 503, "Throttling": 400, "InternalError": 500,
    "ServiceUnavailable": 503, "Unavailable": 503, "InternalFailure": 500, "UnauthorizedOperation": 403}

OF_INSTANCES = ("lag", "die", "interrupt", "retire", "stop", "vanish")
BODY_BYTES_MAX = 1024 * 1024
QUIET_SECONDS_MAX = 5


class Front:
    def __init__(self, moto):
        self.moto, self.rules = moto, Rules()
        self.under_way, self.quiet = 0, threading.Condition()

    def __call__(self, environ, start_response):
        body = environ["wsgi.input"].read(min(int(environ.get("CONTENT_LENGTH") or 0), BODY_BYTES_MAX))
        environ["wsgi.input"] = io.BytesIO(body)
        if environ["PATH_INFO"].startswith("/rig/"):
            return self.control(environ, body, start_response)
        call = Call(body)
        if not call.action or call.fields.get("Version") != "2016-11-15":
            return self.moto(environ, start_response)
        with self.quiet:
            self.under_way += 1
        try:
            status, headers, content = self.carry(call, environ, body)
        finally:
            with self.quiet:
                self.under_way -= 1
                self.quiet.notify_all()
        start_response(status, headers)
        return [content]

    def carry(self, call, environ, body):
        is_listing = call.action == "DescribeInstances"
        outages.step(listing=is_listing)
        paper.step(listing=is_listing)
        taken, note = self.rules.taken_by(call)
        for rule in taken:
            if not rule.how.get("carried_out", rule.how.get("what") == "reply"):
                answer = self.spoil(rule, call, environ)
                if answer:
                    note["status"] = answer[0]
                    return answer
        unknown = unseen(call)
        if unknown:
            return refusal("InvalidInstanceID.NotFound", f"The instance ID '{unknown}' does not exist", 400)
        if any(rule.effect == "leave_open" for rule in taken) and not call.dry:
            return self.leave_open(call, environ, body, next(rule for rule in taken if rule.effect == "leave_open"))
        here.page = min((rule.how["size"] for rule in taken if rule.effect == "page"), default=None)
        answer = self.inner(environ)
        here.page = None
        for rule in taken:
            if rule.effect in OF_INSTANCES and answer[0].startswith("200"):
                for id in call.ids or re.findall(rb"<instanceId>(i-[0-9a-f]+)</instanceId>", answer[2]):
                    outages.act(rule.effect, rule.how, id if isinstance(id, str) else id.decode())
            elif rule.how.get("carried_out", rule.how.get("what") == "reply"):
                answer = self.spoil(rule, call, environ) or answer
        note["status"] = answer[0]
        return answer

    def inner(self, environ):
        told = []

        def start_response(status, headers, _=None):
            told[:] = [status, headers]

        content = b"".join(self.moto(environ, start_response))
        return told[0], told[1], content

    def spoil(self, rule, call, environ):
        """What becomes of the answer; nothing: it is only late, or as it was."""
        how = rule.how
        if rule.effect == "refuse":
            code = how["code"]
            message = how.get("message") or MESSAGES.get(code, "This is so because a rule of the rig says it.")
            message = message.format(type=call.type, zone=call.zone)
            return refusal(code, message, how.get("status") or STATUSES.get(code, 400))
        if rule.effect == "answer":
            body = how.get("body", "<html><body>This is no answer of EC2.</body></html>").encode()
            return f"{how['status']} Broken", [("Content-Type", "text/html")], body
        if rule.effect == "lose":
            hang_up(environ)
        if rule.effect == "wait":
            time.sleep(how["seconds"])
        return None

    def leave_open(self, call, environ, body, rule):
        """The launch is refused and its spot request stays; later it is fulfilled, whoever waits for it."""
        code = rule.how.get("code", "SpotMaxPriceTooLow")
        request = spot.open_one(call.fields)

        def fulfil():
            if request is None or request.state != "open":
                return
            fields = [(name, value) for name, value in urllib.parse.parse_qsl(body.decode(), keep_blank_values=True)
                      if name != "ClientToken" and not name.endswith(".MaxPrice")]
            again = urllib.parse.urlencode(fields).encode()
            status, _, content = self.inner({**environ, "wsgi.input": io.BytesIO(again), "CONTENT_LENGTH": str(len(again))})
            if status.startswith("200"):
                request.state, request._status_code = "active", "fulfilled"
                request.instance_id = re.search(rb"<instanceId>(i-[0-9a-f]+)<", content).group(1).decode()

        if "listings" in rule.how or "seconds" in rule.how:
            outages.when(rule.how, fulfil)
        return refusal(code, rule.how.get("message") or MESSAGES.get(code, "so it is"), 400)

    def control(self, environ, body, start_response):
        try:
            status, said = self.asked(environ["REQUEST_METHOD"], environ["PATH_INFO"][len("/rig/"):], body)
        except (Wrong, ValueError, KeyError) as error:
            status, said = "400 Bad Request", {"error": str(error)}
        start_response(status, [("Content-Type", "application/json")])
        return [(json.dumps(said) + "\n").encode()]

    def asked(self, method, path, body):
        said = json.loads(body) if body else {}
        where, _, id = path.partition("/")
        if where == "faults":
            if method == "DELETE":
                self.rules.clear()
                outages.clear()
            elif method in ("PUT", "POST"):
                self.rules.put(said, anew=method == "PUT")
            return "200 OK", self.rules.told()
        if where == "calls":
            return "200 OK", {"calls": list(self.rules.calls)}
        if where == "instances":  # what somebody has given up may still be carried out
            with self.quiet:
                self.quiet.wait_for(lambda: self.under_way == 0, QUIET_SECONDS_MAX)
        if where == "instances" and method == "GET":
            return "200 OK", {"instances": [seen(one) for one in outages.rows()], "spot_requests": spot.states()}
        if where == "instances" and method == "DELETE":
            outages.forget()
            api.launched.clear()
            return "200 OK", {}
        if where == "instances" and method == "POST":
            ids = [one.id for one in outages.rows() if is_alive(one)] if id == "*" else [id]
            name, how = effect(said)
            if name not in OF_INSTANCES:
                raise Wrong(f"{name} is not of instances; of them are {', '.join(OF_INSTANCES)}")
            if not all(map(outages.row, ids)):
                raise Wrong(f"there is no instance {id}")
            for one in ids:
                outages.act(name, how, one)
            return "200 OK", {"instances": ids}
        if where == "spot-prices" and method == "PUT":
            spot.set_prices(said)
            return "200 OK", {}
        return "404 Not Found", {"error": f"there is no {method} /rig/{path}"}


class Here(threading.local):
    """Of the call that this thread serves."""
    page = None


here = Here()


def is_alive(row):
    return row._state.name not in ("shutting-down", "terminated")


def seen(row):
    """Whatever lists do: what is really there."""
    tags = {tag["key"]: tag["value"] for tag in row.get_tags()}
    return {"id": row.id, "state": row._state.name, "type": row.instance_type, "zone": row._placement.zone,
            "lifecycle": row.lifecycle or "on-demand", "token": row.client_token, "tags": tags,
            "reason": row.state_reason.code if row.state_reason else None}


def unseen(call):
    """One that the call names, and that is not to be seen yet."""
    return next((id for id in call.ids if id in outages.unseen), None)


def refusal(code, message, status):
    body = REFUSAL.format(code=html.escape(code), message=html.escape(message)).encode()
    return f"{status} Refused", [("Content-Type", "text/xml;charset=UTF-8")], body


def hang_up(environ):
    """No answer, and no more of this connection."""
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionResetError("a rule says so")


def serve(host="127.0.0.1"):
    """moto behind a fault layer, in threads; its port."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server
    outages.serve()
    front = Front(DomainDispatcherApplication(create_backend_app))
    server = make_server(host, 0, front, True, request_handler=MotoRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]
