use proptest::prelude::*;

use super::*;

const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh
daemon:x:1:1::/usr/sbin:/bin/false
broken:x:twelve:0::/:/bin/sh
short:x:7

1000:x:5:5::/five:/bin/sh
app:x:1000:1001:App:/home/app:/bin/sh
twin:x:1000:9::/home/twin:/bin/sh
nohome:x:1002:1002
huge:x:4294967296:0::/:/bin/sh
minus:x:-1:0::/:/bin/sh
";

const GROUP: &[u8] = b"root:x:0:root
bin:x:1:root,daemon
app:x:1001:
audio:x:29:app,games
video:x:44:games,app
lists:x:45:application,xapp
bad:x:none:app
huge:x:4294967297:nobody
";

fn resolve(user: &str) -> Result<Identity, UserError> {
    super::resolve(user, PASSWD, GROUP)
}

fn ids(user: &str) -> (u32, u32, Vec<u32>) {
    let identity = resolve(user).unwrap();
    (identity.uid, identity.gid, identity.groups)
}

#[test]
fn empty_user_is_root_with_its_groups() {
    assert_eq!(ids(""), (0, 0, vec![0, 1]));
    assert_eq!(ids(":audio"), (0, 29, vec![29]));
}

#[test]
fn name_gives_ids_groups_and_home() {
    let identity = resolve("app").unwrap();
    assert_eq!(ids("app"), (1000, 1001, vec![1001, 29, 44]));
    assert_eq!(identity.home, b"/home/app");
}

#[test]
fn number_of_an_entry_is_as_its_name() {
    assert_eq!(ids("1"), (1, 1, vec![1]));
}

#[test]
fn first_line_wins_whether_it_matches_by_name_or_by_number() {
    // An entry *named* 1000 comes before the entry with that uid, as in Docker.
    assert_eq!(ids("1000"), (5, 5, vec![5]));
}

#[test]
fn number_without_an_entry_has_group_zero_and_home_root() {
    let identity = resolve("4242").unwrap();
    assert_eq!((identity.uid, identity.gid, identity.groups), (4242, 0, vec![0]));
    assert_eq!(identity.home, b"/");
}

#[test]
fn explicit_group_replaces_all_others() {
    assert_eq!(ids("app:audio"), (1000, 29, vec![29]));
    assert_eq!(ids("app:44"), (1000, 44, vec![44]));
    assert_eq!(ids("4242:4343"), (4242, 4343, vec![4343]));
    assert_eq!(ids("app:audio:ignored"), (1000, 29, vec![29]));
}

#[test]
fn empty_group_is_none() {
    assert_eq!(ids("app:"), (1000, 1001, vec![1001, 29, 44]));
}

#[test]
fn unknown_names_are_told_in_dockers_words() {
    let user = resolve("nobody").unwrap_err().to_string();
    assert_eq!(user, "unable to find user nobody: no matching entries in passwd file");
    let group = resolve("app:nogroup").unwrap_err().to_string();
    assert_eq!(group, "unable to find group nogroup: no matching entries in group file");
}

/// `threats.md` row 12.
#[test]
fn number_out_of_range_is_never_root() {
    for user in ["4294967296", "2147483648", "-1", "0:4294967296", "0:-1", "huge", "minus"] {
        assert_eq!(resolve(user), Err(UserError::Range), "{user}");
    }
    assert_eq!(resolve("0:huge"), Err(UserError::Range));
    let beyond = "99999999999999999999";
    assert_eq!(resolve(beyond), Err(UserError::NoUser(beyond.into())));
}

#[test]
fn malformed_line_is_no_entry() {
    assert_eq!(resolve("broken"), Err(UserError::NoUser("broken".into())));
    assert_eq!(resolve("short"), Err(UserError::NoUser("short".into())));
}

#[test]
fn entry_without_home_has_root_as_home() {
    assert_eq!(resolve("nohome").unwrap().home, b"/");
}

#[test]
fn first_entry_names_a_uid() {
    let passwd = b"root:x:0:0::/root:/bin/sh\nbroken\nlate:x:0:1::/:\nmany:x:4294967296:1::/:\n";
    assert_eq!(names(passwd), [(0, b"root".to_vec())].into());
}

#[test]
fn missing_files_leave_numbers_usable() {
    let identity = super::resolve("12:34", b"", b"").unwrap();
    assert_eq!((identity.uid, identity.gid), (12, 34));
    assert_eq!(super::resolve("", b"", b"").unwrap().groups, [0]);
}

proptest! {
    #[test]
    fn hostile_files_never_panic(
        user in ".{0,20}",
        passwd in proptest::collection::vec(any::<u8>(), 0..256),
        group in "([a-z0-9:,\n-]|x:[0-9]{1,20}:){0,80}",
    ) {
        let _ = super::resolve(&user, &passwd, group.as_bytes());
        let _ = super::resolve(&user, group.as_bytes(), &passwd);
    }

    #[test]
    fn only_zero_and_names_lead_to_root(number in 1i64..) {
        if let Ok(identity) = super::resolve(&number.to_string(), b"", b"") {
            prop_assert_eq!(i64::from(identity.uid), number);
        }
    }
}
