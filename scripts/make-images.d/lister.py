#!/usr/bin/python3
"""Lists a tree, one sorted line a path, so that two trees can be compared as text.

lister.py ROOT [PREFIX]: only paths that start with PREFIX (for example /attrs).

Columns: path, type, mode, uid, gid, size, mtime in ns, links (not of directories),
device, symlink target, sha256, extended attributes (user.*, security.capability).
Bytes that are not printable ASCII are written %XX. Other file systems, and what a
container runtime puts into every container, are left out.
"""
import hashlib
import os
import stat
import sys

TYPES = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "link",
         stat.S_IFCHR: "char", stat.S_IFBLK: "block", stat.S_IFIFO: "fifo",
         stat.S_IFSOCK: "socket"}
RUNTIME = {b"/proc", b"/sys", b"/dev", b"/etc/hosts", b"/etc/hostname", b"/etc/resolv.conf"}


def escape(data):
    return "".join(chr(b) if 33 <= b < 127 and b != 37 else "%%%02X" % b for b in data) or "-"


def digest(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        while piece := f.read(1 << 20):
            h.update(piece)
    return h.hexdigest()


def attributes(path):
    names = sorted(os.listxattr(path, follow_symlinks=False))
    return ",".join("%s=%s" % (escape(os.fsencode(n)), os.getxattr(path, n, follow_symlinks=False).hex())
                    for n in names if n.startswith("user.") or n == "security.capability") or "-"


def line(path, shown):
    st = os.lstat(path)
    kind = TYPES[stat.S_IFMT(st.st_mode)]
    device = "%d:%d" % (os.major(st.st_rdev), os.minor(st.st_rdev)) if kind in ("char", "block") else "-"
    return " ".join([
        escape(shown), kind, "%04o" % stat.S_IMODE(st.st_mode), str(st.st_uid), str(st.st_gid),
        str(st.st_size) if kind in ("file", "link") else "-", str(st.st_mtime_ns),
        "-" if kind == "dir" else str(st.st_nlink), device,
        escape(os.readlink(path)) if kind == "link" else "-",
        digest(path) if kind == "file" else "-",
        attributes(path)])


def walk(root, folder):
    for name in sorted(os.listdir(root + folder)):
        shown = folder.rstrip(b"/") + b"/" + name
        if shown in RUNTIME:
            continue
        yield shown
        st = os.lstat(root + shown)
        if stat.S_ISDIR(st.st_mode) and not os.path.ismount(root + shown):
            yield from walk(root, shown)


def main():
    root = os.fsencode(sys.argv[1]).rstrip(b"/")
    prefix = os.fsencode(sys.argv[2]) if len(sys.argv) > 2 else b"/"
    start = b"/" if prefix == b"/" or not os.path.isdir(root + prefix) else prefix
    for shown in walk(root, start):
        if shown.startswith(prefix):
            print(line(root + shown, shown))


main()
