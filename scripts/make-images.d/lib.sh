# What the recipes on top of the base share. A recipe works on layout:work, with
# bundle/rootfs its unpacked files, and deletes both names at its end.
base=$("$MAKE_IMAGES" base)

open_image() { # from the base, or the layout given
    cp -a "${1:-$base/layout}" layout
    umoci tag --image "layout:${2:-base}" work
    umoci unpack --image layout:work bundle
}
in_image() { chroot bundle/rootfs env -u TMPDIR DEBIAN_FRONTEND=noninteractive "$@"; }
install_in_image() {
    cp -L /etc/resolv.conf /etc/hosts bundle/rootfs/etc/
    cp "$base/apt.conf" bundle/rootfs/etc/apt/apt.conf.d/zz-making
    mount -t proc proc bundle/rootfs/proc
    in_image apt-get -qq update
    in_image apt-get -qq install -y --no-install-recommends "$@"
    umount bundle/rootfs/proc
    in_image apt-get clean
    rm -rf bundle/rootfs/var/lib/apt/lists/* bundle/rootfs/etc/apt/apt.conf.d/zz-making \
        bundle/rootfs/etc/resolv.conf bundle/rootfs/etc/hosts bundle/rootfs/var/log/apt \
        bundle/rootfs/var/log/*.log bundle/rootfs/var/cache/apt/*.bin
}
end_layer() { umoci repack --refresh-bundle --image layout:work --history.created_by "$1" bundle; }
config() { umoci config --no-history --image layout:work "$@"; }
save_image() { # file without .tar, name:tag
    skopeo copy --quiet oci:layout:work "oci-archive:$1.tar:$2"
}
close_image() { rm -rf layout bundle; }
