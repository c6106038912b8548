"""The LAN: a bridge in a namespace, with the gateway, the DNS server and the metadata address on it."""
import ctypes
import os
import socket
import threading

from .tools import DNS, GATEWAY, HOST, HOST_LINK, IMDS, NAMESPACE, NET, sh

CLONE_NEWNET = 0x40000000
BRIDGE_MAC = "06:00:00:00:00:01"
libc = ctypes.CDLL(None, use_errno=True)


def in_namespace(make):
    """What `make` returns, called in a thread that is in the LAN's namespace: a socket stays there."""
    result = []

    def work():
        try:
            handle = os.open(f"/run/netns/{NAMESPACE}", os.O_RDONLY)
            try:
                if libc.setns(handle, CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            finally:
                os.close(handle)
            result.append((make(), None))
        except Exception as error:
            result.append((None, error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    made, error = result[0]
    if error:
        raise error
    return made


def tcp_listener(address, port):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(128)
    return listener


def in_background(work, *arguments):
    threading.Thread(target=work, args=arguments, daemon=True).start()


def lan(*words):
    return sh("ip", "-n", NAMESPACE, *words)


def up():
    sh("ip", "netns", "add", NAMESPACE)
    lan("link", "set", "lo", "up")
    # With an address of its own it keeps that; else it has the lowest of its ports', and whoever knew it hears
    # nothing of it for a minute when an instance comes or goes.
    lan("link", "add", "br0", "address", BRIDGE_MAC, "type", "bridge")
    lan("link", "set", "br0", "up")
    for address in (f"{GATEWAY}/{NET.prefixlen}", f"{DNS}/{NET.prefixlen}", f"{IMDS}/32"):
        lan("addr", "add", address, "dev", "br0")
    sh("ip", "link", "add", HOST_LINK, "type", "veth", "peer", "name", "host", "netns", NAMESPACE)
    lan("link", "set", "host", "master", "br0", "up")
    sh("ip", "addr", "add", f"{HOST}/{NET.prefixlen}", "dev", HOST_LINK)
    sh("ip", "link", "set", HOST_LINK, "up")


def namespaces():
    names = [line.split(" ")[0] for line in sh("ip", "netns").stdout.splitlines()]
    return [name for name in names if name == NAMESPACE or name.startswith(NAMESPACE + "-")]


def links():
    return [line.split()[0].split("@")[0] for line in sh("ip", "-br", "link").stdout.splitlines()]


def down():
    for name in namespaces():
        sh("ip", "netns", "del", name, check=False)
    sh("ip", "link", "del", HOST_LINK, check=False)
