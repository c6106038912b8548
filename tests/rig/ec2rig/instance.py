"""One instance: an overlay on its image, a namespace with one network card, systemd-nspawn."""
import hashlib
import os
import shutil
import signal
import subprocess
import time

from . import cgroups
from .network import lan
from .tools import NAMESPACE, RUN, log, read, sh

MEMORY_MIB = {"nano": 512, "micro": 1024, "small": 2048, "medium": 4096}
MEMORY_MIB_DEFAULT = 4096
# /tmp is what the image says it is, not nspawn's own.
NSPAWN = {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1", "SYSTEMD_NSPAWN_TMPFS_TMP": "0"}
REBOOTED = 133  # systemd-nspawn's exit status for it
DISK_GB_MAX = 4  # a root disk that was asked for is really so large, up to here; others are the host's
SHUTDOWN_SECONDS = 20
SHUTDOWN_SIGNAL = signal.SIGRTMIN + 3  # systemd's: halt
ASK_AGAIN_SECONDS = 0.5

# cloud-init believes that it is on EC2 by this file, as on Xen: there is no DMI in a container.
BOOT = """
set -e
{enter}
mount -t overlay overlay -o lowerdir={image},upperdir={folder}/upper,workdir={folder}/work {folder}/root
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn
# Where /sys can be written systemd-nspawn believes that there is a udev, and waits for its word.
mount -o remount,bind,ro /sys
exec nsenter --net=/run/netns/{namespace} systemd-nspawn --quiet --register=no --keep-unit \\
  --directory={folder}/root --machine={id} --private-network \\
  --network-interface=eth0 --resolv-conf=off --timezone=off --link-journal=no --console=read-only \\
  /bin/sh -c 'mount -o remount,bind,rw /sys; mkdir -p /sys/hypervisor
echo {uuid} >/sys/hypervisor/uuid; mount -o remount,bind,ro /sys; exec /sbin/init --show-status=1'
"""


class Instance:
    """`facts` are what moto knows of it: id, ip, mac, image, type, user_data and more."""

    def __init__(self, facts):
        self.facts, self.id = facts, facts["id"]
        self.folder = f"{RUN}/i/{self.id}"
        self.namespace = f"{NAMESPACE}-{self.id}"
        digest = hashlib.sha1(self.id.encode()).hexdigest()
        self.link = "v" + digest[:10]
        uuid = "ec2" + digest[:29]
        self.uuid = "-".join((uuid[:8], uuid[8:12], uuid[12:16], uuid[16:20], uuid[20:]))
        self.process = None
        self.ending = False

    def start(self):
        began = time.time()
        self.provide_disk()
        for name in ("upper/etc", "work", "root"):
            os.makedirs(f"{self.folder}/{name}", exist_ok=True)
        if not os.path.exists(f"{self.folder}/upper/etc/hostname"):
            with open(f"{self.folder}/upper/etc/hostname", "w") as file:
                file.write("localhost\n")  # cloud-init sets it
        sh("ip", "netns", "add", self.namespace)
        lan("link", "add", self.link, "type", "veth", "peer", "name", "eth0",
            "address", self.facts["mac"], "netns", self.namespace)
        lan("link", "set", self.link, "master", "br0", "up")
        size = self.facts.get("type", "").split(".")[-1]
        cgroups.make(self.id, MEMORY_MIB.get(size, MEMORY_MIB_DEFAULT))
        enter = "\n".join(f"echo $$ >{folder}/cgroup.procs" for folder in cgroups.folders(self.id))
        script = BOOT.format(enter=enter, image=self.facts["image"], folder=self.folder,
                             namespace=self.namespace, id=self.id, uuid=self.uuid)
        with open(f"{self.folder}/console.log", "ab") as console:
            # `slave`: mounts made here are seen nowhere else, and unmounts outside are seen here.
            # Its clocks begin at its boot, as those of a machine of its own do. No `--fork`: this process
            # is then systemd-nspawn itself, and hears a SIGTERM; its children have the clocks.
            uptime = int(float(read("/proc/uptime").split()[0]))
            self.process = subprocess.Popen(
                ["unshare", "-m", "--propagation", "slave", "--time", "--boottime", str(-uptime),
                 "--monotonic", str(-uptime), "sh", "-c", script],
                stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT, start_new_session=True,
                env={"PATH": os.environ["PATH"], **NSPAWN})
        log("boot", id=self.id, ip=self.facts["ip"], took=round(time.time() - began, 3))

    def provide_disk(self):
        size = self.facts.get("root_gb")
        if not size or size > DISK_GB_MAX or os.path.exists(f"{self.folder}/disk"):
            return
        os.makedirs(f"{self.folder}/disk")
        sh("truncate", "-s", f"{size}G", f"{self.folder}/disk.img")
        sh("mkfs.ext4", "-q", f"{self.folder}/disk.img")
        sh("mount", "-o", "loop", f"{self.folder}/disk.img", f"{self.folder}/disk")
        for name in ("upper", "work"):
            os.mkdir(f"{self.folder}/disk/{name}")
            os.symlink(f"disk/{name}", f"{self.folder}/{name}")

    def status(self):
        """How its PID 1 ended; None while it runs."""
        return self.process.poll() if self.process else -1

    def stop(self):
        """As EC2: an orderly shutdown first, then the plug."""
        deadline = time.monotonic() + SHUTDOWN_SECONDS
        while self.status() is None and time.monotonic() < deadline:
            self.ask_to_shut_down()
            try:
                self.process.wait(ASK_AGAIN_SECONDS)
            except subprocess.TimeoutExpired:
                pass
        if self.status() is None:
            log("forced", id=self.id)
        self.release()

    def ask_to_shut_down(self):
        """Again and again: a PID 1 that has just begun does not hear it yet."""
        first = cgroups.first_process(self.id)
        try:
            if first:
                os.kill(first, SHUTDOWN_SIGNAL)
            else:
                self.process.terminate()
        except ProcessLookupError:
            pass  # it went by itself

    def release(self):
        log("gone", id=self.id, status=self.status())
        cgroups.kill(self.id)
        if self.process:
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                pass
        sh("ip", "-n", NAMESPACE, "link", "del", self.link, check=False)
        sh("ip", "netns", "del", self.namespace, check=False)
        self.process = None

    def delete(self):
        """Its disk goes, its logs stay."""
        logs = f"{RUN}/logs/{self.id}"
        os.makedirs(logs, exist_ok=True)
        kept = ("console.log", "upper/var/log/cloud-init.log", "upper/var/log/cloud-init-output.log",
                "upper/var/log/user-data.log")
        for name in kept:
            if os.path.exists(f"{self.folder}/{name}"):
                shutil.copy(f"{self.folder}/{name}", logs)
        if os.path.exists(f"{self.folder}/disk"):
            sh("umount", f"{self.folder}/disk", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
