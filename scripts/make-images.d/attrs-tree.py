"""Makes the trees of the attrs image's layers, with everything a tar can say about a file.

attrs-tree.py FOLDER makes FOLDER/1 … FOLDER/5, each to be packed as one layer.
"""
import os
import subprocess
import sys

NOW = 1_700_000_000_123_456_789
top = os.fsencode(sys.argv[1])


def at(layer, name):
    path = os.path.join(top, b"%d" % layer, b"attrs", name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return path


def put(layer, name, data=b"", mode=0o644, uid=0, gid=0, mtime=NOW):
    path = at(layer, name)
    with open(path, "wb") as f:
        f.write(data)
    os.chown(path, uid, gid)
    os.chmod(path, mode)  # after chown, which clears setuid
    os.utime(path, ns=(mtime, mtime))
    return path


def sparse(layer, name, pieces, size):
    with open(at(layer, name), "wb") as f:
        for offset, data in pieces:
            f.seek(offset)
            f.write(data)
        f.truncate(size)


def modes_owners_times():
    for mode in (0o000, 0o400, 0o644, 0o755, 0o777, 0o1777, 0o2755, 0o4755, 0o6711, 0o7777):
        put(1, b"mode/%04o" % mode, b"%o" % mode, mode=mode)
    for mode in (0o700, 0o1777, 0o2775, 0o3777):
        os.makedirs(at(1, b"mode/dir-%04o" % mode))
        os.chmod(at(1, b"mode/dir-%04o" % mode), mode)
    for uid, gid in ((1, 2), (1000, 1000), (65534, 65534), (65536, 70000), (2_000_000, 3_000_000),
                     (2**31, 2**31 + 1), (2**32 - 2, 2**32 - 2)):
        put(1, b"owner/%d-%d" % (uid, gid), uid=uid, gid=gid)
    for mtime in (0, 1, -1_500_000_000, -1, -86_400_000_000_000, 2**31 * 10**9, 2**32 * 10**9 + 7,
                  999_999_999, NOW):
        put(1, b"time/%d" % mtime, mtime=mtime)


def names_and_links():
    put(1, b"name/" + b"n" * 255)
    put(1, b"name/" + b"/".join([b"d" * 200] * 5) + b"/deep")
    for name in (b"\xff\xfe-not-utf8", b"latin-\xe9", b"new\nline", b"space and 'quotes\"", b"back\\slash",
                 "umlaut-ä-漢字".encode(), b"-dash", b" lead", b"%percent", b"colon:=equals", b".wh", b"a.wh.b"):
        put(1, b"name/" + name, name)
    for length in (1, 59, 60, 61, 99, 100, 101, 255, 256, 1023, 1024, 4095):
        os.makedirs(at(1, b"symlink"), exist_ok=True)
        os.symlink((b"target/" * 600)[:length], at(1, b"symlink/%d" % length))
    os.symlink(b"/attrs/mode/0644", at(1, b"symlink/absolute"))
    os.symlink(b"\xff\xfe", at(1, b"symlink/not-utf8"))
    os.symlink(b"../mode", at(1, b"symlink/to-dir"))
    os.lchown(at(1, b"symlink/to-dir"), 1234, 5678)
    put(1, b"hardlink/a", b"one file", mode=0o640, uid=7)
    for name in (b"hardlink/b", b"hardlink/c", b"other/d"):
        os.link(at(1, b"hardlink/a"), at(1, name))
    os.link(at(1, b"symlink/60"), at(1, b"hardlink/symlink"), follow_symlinks=False)
    for number in range(3000):
        put(1, b"many/entry-%04d" % number, b"%d" % number if number % 10 == 0 else b"")


def special_files():
    os.makedirs(at(1, b"device"))
    for name, kind, major, minor in ((b"null", 0o020666, 1, 3), (b"tty", 0o020620, 5, 0),
                                     (b"disk", 0o060660, 8, 1), (b"big", 0o020600, 300, 70000)):
        os.mknod(at(1, b"device/" + name), kind, os.makedev(major, minor))
        os.chmod(at(1, b"device/" + name), kind & 0o7777)
    os.mkfifo(at(1, b"device/fifo"), 0o622)
    path = put(1, b"xattr/user", b"x")
    os.setxattr(path, b"user.text", b"value")
    os.setxattr(path, b"user.empty", b"")
    os.setxattr(path, b"user.binary", bytes(range(256)))
    os.setxattr(path, b"user." + b"n" * 200, b"v" * 1000)
    path = put(1, b"xattr/capable", b"\x7fELF", mode=0o755)
    subprocess.run(["setcap", "cap_net_raw,cap_net_bind_service+ep", path], check=True)
    os.makedirs(at(1, b"xattr/dir"))
    os.setxattr(at(1, b"xattr/dir"), b"user.on", b"a directory")


def contents():
    for size in (0, 1, 511, 512, 513, 4095, 4096, 4097, 8192, 1_000_003):
        put(1, b"size/%d" % size, (b"0123456789abcdef" * (size // 16 + 1))[:size])
    put(1, b"size/zeros", bytes(300_000))
    for layer, name in ((1, b"sparse-1.0"), (2, b"sparse-gnu"), (3, b"sparse-0.1"), (4, b"sparse-0.0")):
        sparse(layer, name + b"/head", [(0, b"a" * 5000)], 3 << 20)
        sparse(layer, name + b"/tail", [((3 << 20) - 5, b"tail!")], 3 << 20)
        sparse(layer, name + b"/holes", [(i << 16, b"%d" % i * 100) for i in range(1, 40, 2)], 4 << 20)
        sparse(layer, name + b"/empty", [], 1 << 20)
    put(2, b"gnu/" + b"g" * 255)
    put(2, b"gnu/" + b"/".join([b"l" * 120] * 3) + b"/deep")
    os.symlink(b"s" * 300, at(2, b"gnu/long-symlink"))
    put(2, b"gnu/old", mtime=-5_000_000_000)
    put(2, b"gnu/big-owner", uid=3_000_000, gid=4_000_000)


def changes():
    """Layer 5: whiteouts, opaque directories, and every change of type."""
    for layer, name in ((1, b"change/gone"), (1, b"change/gone-dir/x/y"), (1, b"change/opaque/old"),
                        (1, b"change/opaque/old-dir/x"), (1, b"change/file-to-dir"), (1, b"change/dir-to-file/x"),
                        (1, b"change/file-to-symlink"), (1, b"change/gone-and-back/old"), (1, b"change/meta"),
                        (1, b"change/link-a"), (1, b"change/dir-to-symlink/x"), (1, b"change/opaque-in/sub/old")):
        put(layer, name, b"old " + name)
    os.symlink(b"opaque", at(1, b"change/symlink-to-dir"))
    os.link(at(1, b"change/link-a"), at(1, b"change/link-b"))

    for name in (b"gone", b"gone-dir", b"never-there", b"gone-and-back"):
        put(5, b"change/.wh." + name)
    put(5, b"change/opaque/.wh..wh..opq")
    put(5, b"change/opaque/new", b"new")
    put(5, b"change/opaque-in/sub/.wh..wh..opq")
    put(5, b"change/gone-and-back/new", b"back")
    put(5, b"change/file-to-dir/x", b"now a directory")
    put(5, b"change/dir-to-file", b"now a file")
    os.symlink(b"gone", at(5, b"change/file-to-symlink"))
    os.symlink(b"opaque", at(5, b"change/dir-to-symlink"))
    put(5, b"change/symlink-to-dir/x", b"now a directory")
    put(5, b"change/meta", b"old change/meta", mode=0o600, uid=42)
    put(5, b"change/link-b", b"no longer linked")
    put(5, b"mode/0644", b"replaced, other links of the lower layer stay", mode=0o644)
    put(5, b"many/.wh.entry-0000")


def set_directory_times():
    for folder, _, _ in os.walk(top, topdown=False):
        os.utime(folder, ns=(NOW - 1, NOW - 1))


os.umask(0o022)
modes_owners_times()
names_and_links()
special_files()
contents()
changes()
set_directory_times()
