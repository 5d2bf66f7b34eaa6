"""Extracts an image the slow and sure way: each layer with GNU tar, as root, after its
whiteouts were applied with a plain delete. What vmrun shows must look the same.

oracle.py LAYOUT TAG FOLDER
"""
import gzip
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile


def blob(layout, digest):
    return os.path.join(layout, "blobs", *digest.split(":"))


def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.remove(path)


def apply_layer(tar_path, root, times):
    """Whiteouts speak of lower layers alone, so they all come before the extraction."""
    with tarfile.open(tar_path, errors="surrogateescape") as tar:
        members = tar.getmembers()
    for member in members:
        path = os.path.join(root, member.name)
        folder, name = os.path.split(path)
        if name == ".wh..wh..opq":
            for child in os.listdir(folder) if os.path.isdir(folder) else []:
                remove(os.path.join(folder, child))
        elif name.startswith(".wh."):
            remove(os.path.join(folder, name[4:]))
        elif not member.isdir() and os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
    subprocess.run(["tar", "-C", root, "-xpf", tar_path, "--numeric-owner", "--same-owner",
                    "--xattrs", "--xattrs-include=*", "--exclude=.wh.*"], check=True)
    # Work inside a directory changes its time; the time in its newest entry counts.
    for member in members:
        if member.isdir():
            path = os.path.normpath(os.path.join(root, member.name))
            times[path] = os.lstat(path).st_mtime_ns


def main():
    layout, tag, root = sys.argv[1:]
    with open(os.path.join(layout, "index.json")) as f:
        manifests = json.load(f)["manifests"]
    name = "org.opencontainers.image.ref.name"
    digest = next(m["digest"] for m in manifests if m.get("annotations", {}).get(name) == tag)
    with open(blob(layout, digest)) as f:
        layers = json.load(f)["layers"]
    times = {}
    for layer in layers:
        with tempfile.NamedTemporaryFile() as plain:
            with gzip.open(blob(layout, layer["digest"])) as packed:
                shutil.copyfileobj(packed, plain, 1 << 20)
            plain.flush()
            apply_layer(plain.name, root, times)
    for path, mtime in times.items():
        if os.path.isdir(path) and not os.path.islink(path):
            os.utime(path, ns=(mtime, mtime))


main()
