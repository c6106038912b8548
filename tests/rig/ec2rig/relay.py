"""The only way out of an instance: to the package registries that this host is set up for."""
import os
import re
import select
import socket
import struct
import subprocess
import urllib.parse

from .network import in_background, in_namespace, tcp_listener
from .tools import GATEWAY, IMAGES, log, read, sh

IDLE_SECONDS = 300
HEAD_BYTES_MAX = 65536


def registries():
    """Host names out of apt's, pip's and npm's settings on this machine, and the images' mirrors; more by
    RIG_HOSTS."""
    def said(*command):
        try:
            return sh(*command, check=False, timeout=20).stdout.split()
        except (OSError, subprocess.TimeoutExpired):
            return []

    urls = said("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages")
    urls += said("python3", "-c",
                 "from pip._internal.models.index import PyPI as p; print(p.url, 'https://' + p.file_storage_domain)")
    urls += said("pip", "config", "get", "global.index-url")
    urls += said("npm", "config", "get", "registry")
    for folder in os.listdir(IMAGES) if os.path.isdir(IMAGES) else []:
        urls += read(f"{IMAGES}/{folder}/.rig-image").split()
    names = {urllib.parse.urlparse(url).hostname for url in urls}
    return {name for name in names | set(os.environ.get("RIG_HOSTS", "").split()) if name}


class Relay:
    """Listens on the gateway inside the LAN, and connects from this host, to allowed names only."""

    def __init__(self, names):
        self.names = names

    def http(self):
        self.listen(80, self.by_host)

    def tls(self):
        self.listen(443, self.by_server_name)

    def loopback(self, port):
        self.listen(port, lambda client: (b"", ("127.0.0.1", port)))

    def listen(self, port, find):
        listener = in_namespace(lambda: tcp_listener(GATEWAY, port))

        def loop():
            while True:
                client, _ = listener.accept()
                in_background(self.serve, client, find)

        in_background(loop)

    def serve(self, client, find):
        try:
            client.settimeout(30)
            head, place = find(client)
            if place is None:
                return client.close()
            server = socket.create_connection(place, 30)
            server.sendall(head)
            splice(client, server)
        except OSError as error:
            log("relay-error", why=str(error))
            client.close()

    def allowed(self, name, port):
        if name in self.names:
            return (name, port)
        log("relay-refused", name=name)
        return None

    def by_host(self, client):
        head = b""
        while b"\r\n\r\n" not in head and len(head) < HEAD_BYTES_MAX:
            part = client.recv(65536)
            if not part:
                return head, None
            head += part
        host = re.search(rb"(?im)^host:\s*([^\s:]+)", head)
        place = self.allowed(host.group(1).decode() if host else None, 80)
        if place is None:
            client.sendall(b"HTTP/1.1 403 No registry of this host\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        return head, place

    def by_server_name(self, client):
        head = b""
        while len(head) < 5 or len(head) < 5 + struct.unpack(">H", head[3:5])[0]:
            part = client.recv(65536)
            if not part:
                return head, None
            head += part
        return head, self.allowed(server_name(head), 443)


def server_name(hello):
    """The name in a TLS ClientHello, or None."""
    try:
        place = 5 + 4 + 2 + 32
        place += 1 + hello[place]
        place += 2 + struct.unpack(">H", hello[place:place + 2])[0]
        place += 1 + hello[place]
        end = place + 2 + struct.unpack(">H", hello[place:place + 2])[0]
        place += 2
        while place < end:
            kind, length = struct.unpack(">HH", hello[place:place + 4])
            place += 4
            if kind == 0:
                return hello[place + 5:place + length].decode()
            place += length
    except (IndexError, struct.error, UnicodeError):
        pass
    return None


def splice(one, other):
    one.settimeout(None)
    other.settimeout(None)
    reading = [one, other]
    try:
        while reading:
            ready, _, _ = select.select(reading, [], [], IDLE_SECONDS)
            if not ready:
                return
            for source in ready:
                part, target = source.recv(65536), other if source is one else one
                if part:
                    target.sendall(part)
                    continue
                reading.remove(source)
                target.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # one of them went away
    finally:
        one.close()
        other.close()
