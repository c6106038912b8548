"""Rules of what goes wrong: for which calls, how often, by what chance, and what becomes of those calls."""
import fnmatch
import random
import threading
import urllib.parse

from . import outages
from .tools import ACCOUNT, REGION, log

# What a rule may do, and with what. A word in place of the parameters is the first of them.
EFFECTS = {
    "refuse": ("code", "message", "status", "carried_out"),
    "answer": ("status", "body", "carried_out"),
    "lose": ("what",),
    "wait": ("seconds", "carried_out"),
    "page": ("size",),
    "lag": ("listings", "seconds"),
    "die": ("code", "message", "listings", "seconds"),
    "leave_open": ("listings", "seconds", "code", "message"),
    "interrupt": ("in", "listings", "seconds"),
    "retire": ("in", "listings", "seconds"),
    "stop": ("listings", "seconds"),
    "vanish": ("listings", "seconds"),
}
NEEDED = {"refuse": "code", "answer": "status", "lose": "what", "wait": "seconds", "page": "size", "die": "code"}
NUMBERS = {"status": int, "seconds": (int, float), "in": (int, float), "listings": int, "size": int}
MATCHES = ("action", "type", "zone", "market", "instance")
COUNTS = {"count": int, "skip": int, "chance": (int, float), "dry": bool, "name": str}
CALLS_MAX = 100_000  # of the list of calls


class Wrong(Exception):
    """What is wrong with a rule, for whoever wrote it."""


class Call:
    """One call of the API, as rules see it."""

    def __init__(self, body):
        self.fields = dict(urllib.parse.parse_qsl(body.decode("utf8", "replace"), keep_blank_values=True))
        self.action = self.fields.get("Action", "")
        self.dry = self.fields.get("DryRun") == "true"
        self.ids = [value for name, value in self.fields.items() if name.startswith("InstanceId")]
        rows = [row for row in map(outages.row, self.ids) if row]
        self.type = rows[0].instance_type if rows else self.fields.get("InstanceType", "")
        self.zone = rows[0]._placement.zone if rows else zone_of(self.fields)
        is_spot = rows[0].lifecycle == "spot" if rows else "InstanceMarketOptions.MarketType" in self.fields
        self.market = "spot" if is_spot else "on-demand"
        self.instance = self.ids[0] if self.ids else ""


def subnet_of(fields):
    return fields.get("SubnetId") or fields.get("NetworkInterface.1.SubnetId")


def zone_of(fields):
    """Where a launch would be."""
    from moto.ec2.models import ec2_backends
    subnet = subnet_of(fields)
    if subnet:
        for zone in ec2_backends[ACCOUNT][REGION].subnets.values():
            if subnet in zone:
                return zone[subnet].availability_zone
    return fields.get("Placement.AvailabilityZone") or f"{REGION}a"


class Rule:
    def __init__(self, said):
        if not isinstance(said, dict):
            raise Wrong(f"a rule is an object, not {said!r}")
        for key, value in said.items():
            if key in MATCHES and not isinstance(value, str):
                raise Wrong(f"{key} is a pattern, not {value!r}")
            if key in COUNTS and not isinstance(value, COUNTS[key]):
                raise Wrong(f"{key} cannot be {value!r}")
            if key != "do" and key not in MATCHES and key not in COUNTS:
                raise Wrong(f"a rule has no {key!r}; it has {', '.join((*MATCHES, *COUNTS, 'do'))}")
        self.said = said
        self.effect, self.how = effect(said.get("do"))
        self.skip, self.left = said.get("skip", 0), said.get("count")
        self.chance, self.dry = said.get("chance", 1), said.get("dry", False)
        self.acted = 0

    def takes(self, call, dice):
        fits = all(fnmatch.fnmatchcase(getattr(call, name), self.said[name]) for name in MATCHES if name in self.said)
        if not fits or call.dry != self.dry or self.left == 0:
            return False
        if self.skip:
            self.skip -= 1
            return False
        if dice.random() >= self.chance:
            return False
        if self.left is not None:
            self.left -= 1
        self.acted += 1
        return True


def effect(said):
    """What a rule does, checked: its name and its parameters."""
    if not isinstance(said, dict) or len(said) != 1:
        raise Wrong(f"\"do\" is one of {', '.join(EFFECTS)}, not {said!r}")
    (name, how), = said.items()
    if name not in EFFECTS:
        raise Wrong(f"nothing is called {name!r}; there are {', '.join(EFFECTS)}")
    if not isinstance(how, dict):
        how = {EFFECTS[name][0]: how}
    for key, value in how.items():
        if key not in EFFECTS[name]:
            raise Wrong(f"{name} has no {key!r}; it has {', '.join(EFFECTS[name])}")
        if key in NUMBERS and (not isinstance(value, NUMBERS[key]) or value < 0):
            raise Wrong(f"{name}: {key} cannot be {value!r}")
    if NEEDED.get(name, name) not in (*how, name):
        raise Wrong(f"{name} needs {NEEDED[name]!r}")
    if name == "lose" and how["what"] not in ("request", "reply"):
        raise Wrong(f"lose the request or the reply, not {how['what']!r}")
    return name, how


class Rules:
    """All that are set, and every call that has come."""

    def __init__(self):
        self.lock = threading.Lock()
        self.clear()

    def clear(self, seed=0):
        self.rules, self.dice, self.seed, self.calls = [], random.Random(seed), seed, []

    def put(self, said, anew):
        """Takes rules up, all or none of them."""
        if not isinstance(said, dict) or set(said) - {"seed", "rules"}:
            raise Wrong("rules are {\"seed\": NUMBER, \"rules\": [RULE, …]}")
        made = [Rule(rule) for rule in said.get("rules", [])]
        with self.lock:
            if anew:
                self.clear(said.get("seed", 0))
            elif "seed" in said:
                self.seed, self.dice = said["seed"], random.Random(said["seed"])
            self.rules += made

    def taken_by(self, call):
        """The rules that this call meets, in order, and the note that is kept of it."""
        with self.lock:
            taken = [rule for rule in self.rules if rule.takes(call, self.dice)]
            note = {"action": call.action, "token": call.fields.get("ClientToken"), "ids": call.ids,
                    "faults": [rule.effect for rule in taken], "status": None}
            if len(self.calls) < CALLS_MAX:
                self.calls.append(note)
        for rule in taken:
            log("fault", action=call.action, ids=call.ids, does=rule.said["do"], name=rule.said.get("name"))
        return taken, note

    def told(self):
        with self.lock:
            rules = [{**rule.said, "acted": rule.acted, "left": rule.left} for rule in self.rules]
            return {"seed": self.seed, "rules": rules}
