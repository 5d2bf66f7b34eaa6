//! Which extended attributes of an entry reach the root disk.

use crate::tar::{MemberKind, Xattr};

/// Keeps what extracting as root would set and the guest may see (threats.md row 10):
///
/// - overlayfs' own attributes are dropped: in the guest's lower layer they would be obeyed;
/// - `user.*` is for files and directories alone, ACLs are not for symlinks: Linux refuses others;
/// - of `system.*` only the ACLs are stored by a file system;
/// - `security.*` and `trusted.*` stay; they mean something inside the guest only.
pub(super) fn filter(kind: MemberKind, xattrs: &mut Vec<Xattr>) {
    let is_file = matches!(kind, MemberKind::Regular | MemberKind::Directory);
    xattrs.retain(|(name, _)| {
        let has = |prefix: &[u8]| name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty());
        match name.as_slice() {
            name if name.len() > 255 => false,
            b"system.posix_acl_access" => kind != MemberKind::Symlink,
            b"system.posix_acl_default" => kind == MemberKind::Directory,
            _ if has(b"trusted.overlay.") || has(b"user.overlay.") => false,
            _ if has(b"user.") => is_file,
            _ => has(b"security.") || has(b"trusted."),
        }
    });
    // A hard link has the attributes of what it links to.
    if kind == MemberKind::HardLink {
        xattrs.clear();
    }
    xattrs.sort();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(kind: MemberKind, names: &[&str]) -> Vec<String> {
        let mut xattrs = names.iter().map(|name| (name.as_bytes().to_vec(), vec![1])).collect();
        filter(kind, &mut xattrs);
        xattrs.into_iter().map(|(name, _)| String::from_utf8(name).unwrap()).collect()
    }

    #[test]
    fn row10_overlay_attributes_are_dropped_and_capabilities_kept() {
        let names = [
            "trusted.overlay.opaque",
            "user.overlay.whiteout",
            "security.capability",
            "user.mine",
            "trusted.x",
            "system.nfs4_acl",
            "system.posix_acl_default",
            "user.",
            "bogus",
        ];
        let expected = ["security.capability", "trusted.x", "user.mine"];
        assert_eq!(kept(MemberKind::Regular, &names), expected);
        assert_eq!(kept(MemberKind::Symlink, &names), ["security.capability", "trusted.x"]);
        assert_eq!(kept(MemberKind::Directory, &names).len(), 4);
        assert!(kept(MemberKind::HardLink, &names).is_empty());
    }
}
