"""What goes wrong with an instance itself, now, after a while, or after so many listings: it is not listed yet, it
dies, it is a spot instance that is taken back, its host is retired."""
import datetime
import threading
import time

from .tools import ACCOUNT, log

TICK_SECONDS = 0.1
NOTICE_SECONDS = 120  # between a spot notice and the end
RETIRE_SECONDS = 14 * 24 * 3600

REASONS = {
    "Server.InsufficientInstanceCapacity": "Insufficient capacity to launch the instance.",
    "Server.SpotInstanceTermination": "A Spot Instance was terminated due to an increase in the Spot price.",
    "Server.ScheduledStop": "The instance was stopped due to a scheduled retirement.",
    "Server.InternalError": "An internal error occurred during instance launch.",
    "Client.VolumeLimitExceeded": "Volume limit exceeded",
    "Client.InternalError": "Client error on launch",
    "Client.InvalidSnapshot.NotFound": "The specified snapshot was not found.",
}

lock = threading.RLock()
later = []  # [due time or None, listings left or None, what then]
unseen = {}  # instances that lists do not show: id -> listings left, or None
notices = {}  # what an instance's metadata service says of its near end: id -> {"spot": …, "events": […]}


def row(id):
    from moto.ec2.models import ec2_backends
    for backend in list(ec2_backends[ACCOUNT].values()):
        for reservation in list(backend.reservations.values()):
            for one in reservation.instances:
                if one.id == id:
                    return one
    return None


def rows():
    from moto.ec2.models import ec2_backends
    return [one for backend in list(ec2_backends[ACCOUNT].values())
            for reservation in list(backend.reservations.values()) for one in reservation.instances]


def clear():
    """Nothing more goes wrong; what has, stays so, but for lists, which are complete again."""
    with lock:
        later.clear()
        unseen.clear()


def forget():
    """As if nothing had ever been launched: of the API alone, where nothing is behind it."""
    from moto.ec2.models import ec2_backends
    clear()
    notices.clear()
    for backend in list(ec2_backends[ACCOUNT].values()):
        for one in rows():
            if one._state.name != "terminated":
                one.terminate()
        backend.reservations.clear()
        backend.spot_instance_requests.clear()


def when(how, what):
    """Does it now, after `seconds`, or before the answer to the listing after so many `listings`."""
    seconds, listings = how.get("seconds"), how.get("listings")
    if not seconds and not listings:
        return what()
    with lock:
        later.append([time.monotonic() + seconds if seconds else None, listings, what])


def step(listing=False):
    """What is due. Each listing counts."""
    due = []
    with lock:
        for one in list(later):
            if one[0] is not None and one[0] <= time.monotonic():
                due.append(one)
            elif one[1] is not None and listing:
                one[1] -= 1
                if one[1] < 0:
                    due.append(one)
        for one in due:
            later.remove(one)
        if listing:
            for id, left in list(unseen.items()):
                if left is not None:
                    unseen[id] = left - 1
                    if left <= 0:
                        del unseen[id]
    for one in due:
        one[2]()


def serve():
    def loop():
        while True:
            time.sleep(TICK_SECONDS)
            try:
                step()
            except Exception as error:
                log("outage-failed", why=repr(error))

    threading.Thread(target=loop, daemon=True).start()


def act(effect, how, id):
    """One of the effects that are of an instance."""
    if effect == "lag":
        return lag(how, id)
    acts = {"die": die, "interrupt": interrupt, "retire": retire, "stop": stop, "vanish": vanish}
    when(how, lambda: acts[effect](how, id))


def lag(how, id):
    """For so many listings or seconds, or for ever, nobody knows of it."""
    with lock:
        unseen[id] = how.get("listings")
        if how.get("seconds"):
            later.append([time.monotonic() + how["seconds"], None, lambda: unseen.pop(id, None)])


def die(how, id):
    end(id, how["code"], how.get("message") or REASONS.get(how["code"], "so it is"))


def stop(how, id):
    """By somebody's hand."""
    end(id, "Client.UserInitiatedShutdown", "User initiated shutdown", by="stop")


def vanish(how, id):
    """It lives on, and no list shows it any more."""
    with lock:
        unseen[id] = None


def end(id, code, message, by="terminate"):
    from .api import changing
    from .hypervisor import give_reason
    found = row(id)
    with changing:
        if found is None or found._state.name in ("shutting-down", "terminated"):
            return
        log("outage", id=id, code=code)
        getattr(found, by)()
        give_reason(found, code, message)


def utc(seconds):
    return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)


def interrupt(how, id):
    """The notice, and after its time the end."""
    seconds = how.get("in", NOTICE_SECONDS)
    at = utc(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")
    log("spot-notice", id=id, at=at)
    notices.setdefault(id, {})["spot"] = at
    code = "Server.SpotInstanceTermination"
    when({"seconds": seconds}, lambda: end(id, code, REASONS[code]))


def retire(how, id):
    """The event, and after its time the stop; EC2 stops what has its root on EBS."""
    seconds = how.get("in", RETIRE_SECONDS)
    event = {"code": "instance-stop", "id": "instance-event-" + id[2:].rjust(17, "0")[:17], "at": utc(seconds)}
    log("retirement", id=id)
    notices.setdefault(id, {}).setdefault("events", []).append(event)
    found = row(id)
    if found is not None:
        found.events = [{"InstanceEventId": event["id"], "Code": event["code"], "NotBefore": event["at"],
                         "Description": "The instance is running on degraded hardware"}]
    code = "Server.ScheduledStop"
    by = "terminate" if found is not None and found.lifecycle == "spot" else "stop"
    when({"seconds": seconds}, lambda: end(id, code, REASONS[code], by=by))
