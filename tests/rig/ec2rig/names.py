"""DHCP and DNS of the LAN: fixed leases, and no names but those that lead somewhere."""
import re
import socket
import struct

from . import metadata
from .network import in_background, in_namespace
from .tools import DNS, GATEWAY, HOST, NET

LEASE_SECONDS = 3600
DISCOVER, OFFER, REQUEST, ACK = 1, 2, 3, 5
MAGIC = b"\x63\x82\x53\x63"


def serve_dhcp():
    def make():
        listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"br0\0")
        listener.bind(("", 67))
        return listener

    listener = in_namespace(make)

    def loop():
        while True:
            question, _ = listener.recvfrom(4096)
            answer = lease(question)
            if answer:
                listener.sendto(answer, ("255.255.255.255", 68))

    in_background(loop)


def lease(question):
    card = ":".join("%02x" % byte for byte in question[28:34])
    instances = [one for one in list(metadata.by_address.values()) if one["mac"] == card]
    kind = message_kind(question)
    if not instances or kind not in (DISCOVER, REQUEST):
        return None
    address = instances[0]["ip"]
    packed = socket.inet_aton
    answer = b"\2\1\6\0" + question[4:8] + question[8:10] + b"\x80\0" + bytes(4) + packed(address)
    answer += packed(GATEWAY) + bytes(4) + question[28:44] + bytes(192) + MAGIC
    options = [
        (53, bytes([OFFER if kind == DISCOVER else ACK])), (54, packed(GATEWAY)),
        (51, struct.pack(">I", LEASE_SECONDS)), (1, NET.netmask.packed), (3, packed(GATEWAY)), (6, packed(DNS)),
        (15, b"ec2.internal"), (12, ("ip-" + address.replace(".", "-")).encode()), (26, struct.pack(">H", 1500))]
    for number, value in options:
        answer += bytes([number, len(value)]) + value
    return (answer + b"\xff").ljust(300, b"\0")


def message_kind(question):
    place = 240
    while place + 2 < len(question) and question[place] != 255:
        if question[place] == 0:
            place += 1
            continue
        if question[place] == 53:
            return question[place + 2]
        place += 2 + question[place + 1]
    return 0


def serve_dns(registries):
    def make():
        listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listener.bind((DNS, 53))
        return listener

    listener = in_namespace(make)

    def loop():
        while True:
            question, asker = listener.recvfrom(4096)
            try:
                listener.sendto(resolve(question, registries), asker)
            except (IndexError, struct.error, UnicodeError):
                pass  # not a question

    in_background(loop)


def resolve(question, registries):
    place, labels = 12, []
    while question[place]:
        length = question[place]
        labels.append(question[place + 1:place + 1 + length].decode("latin1").lower())
        place += 1 + length
    kind = struct.unpack(">H", question[place + 1:place + 3])[0]
    end, name = place + 5, ".".join(labels)
    own = re.match(r"ip-(\d+)-(\d+)-(\d+)-(\d+)(\.ec2\.internal)?$", name)
    address = None
    if name in registries:
        address = GATEWAY
    elif name == "host.ec2.internal":
        address = HOST
    elif own:
        address = ".".join(own.groups()[:4])
    answer = b""
    if address and kind == 1:
        answer = b"\xc0\x0c\0\1\0\1\0\0\0\x1e\0\4" + socket.inet_aton(address)
    no_such_name = 0 if address else 3
    header = struct.pack(">HHHHH", 0x8580 | no_such_name, 1, 1 if answer else 0, 0, 0)
    return question[:2] + header + question[12:end] + answer
