//! The user that the launcher becomes once everything is open, as `--user` names it.
//!
//! Names are looked up in `/etc/passwd` alone: the launcher is linked statically, and services for names (NSS)
//! are shared libraries.

use thiserror::Error;

/// Where users are listed (passwd(5)).
pub const USERS: &str = "/etc/passwd";

/// A user and a group, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// The user.
    pub uid: u32,
    /// The one group.
    pub gid: u32,
}

/// Why a text names no user.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UserError {
    /// A name that is not listed.
    #[error("--user: there is no user {0} in {USERS}; give numbers, as in --user 1000:1000")]
    Unknown(String),
    /// A number that is not listed, so that its group is not known.
    #[error("--user: there is no user {0} in {USERS}: give its group too, as in --user {0}:{0}")]
    NoGroup(u32),
    /// The group is no number.
    #[error("--user: `{0}` is no number of a group")]
    Group(String),
}

impl User {
    /// The user of a text `NAME` or `UID`, and with `:GID` behind it the group, which is otherwise the user's own.
    /// `users` has the form of [`USERS`].
    ///
    /// # Errors
    /// [`UserError`].
    pub fn find(text: &str, users: &str) -> Result<Self, UserError> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => {
                (user, Some(number(group).ok_or_else(|| UserError::Group(group.to_owned()))?))
            }
            None => (text, None),
        };
        let uid = number(user);
        let listed = users.lines().filter_map(Entry::parse).find(|entry| match uid {
            Some(uid) => entry.user.uid == uid,
            None => entry.name == user,
        });
        match (listed, uid, group) {
            (Some(entry), _, None) => Ok(entry.user),
            (Some(entry), _, Some(gid)) => Ok(Self { uid: entry.user.uid, gid }),
            (None, Some(uid), Some(gid)) => Ok(Self { uid, gid }),
            (None, Some(uid), None) => Err(UserError::NoGroup(uid)),
            (None, None, _) => Err(UserError::Unknown(user.to_owned())),
        }
    }
}

/// The number of a user or a group. The largest means "none" to the kernel.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|&number| number != u32::MAX)
}

/// A line of [`USERS`].
struct Entry<'t> {
    name: &'t str,
    user: User,
}

impl<'t> Entry<'t> {
    /// `NAME:PASSWORD:UID:GID:...`
    fn parse(line: &'t str) -> Option<Self> {
        let mut fields = line.split(':');
        let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        Some(Self { name, user: User { uid: number(uid)?, gid: number(gid)? } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "root:x:0:0:root:/root:/bin/sh\n\
        broken:x:one:1\n\
        guest:x:1001:1100::/home/guest:/bin/sh\n";

    #[test]
    fn users_are_found_by_name_and_by_number() {
        for (text, uid, gid) in [
            ("guest", 1001, 1100),
            ("guest:7", 1001, 7),
            ("1001", 1001, 1100),
            ("1001:7", 1001, 7),
            ("65534:65534", 65534, 65534),
            ("root", 0, 0),
        ] {
            assert_eq!(User::find(text, LISTED), Ok(User { uid, gid }), "{text}");
        }
    }

    #[test]
    fn what_is_no_user_is_refused() {
        for text in ["nosuch", "broken", "", "-1:5", "4294967295:5"] {
            let user = text.split(':').next().unwrap();
            assert_eq!(User::find(text, LISTED), Err(UserError::Unknown(user.to_owned())), "{text}");
        }
        assert_eq!(User::find("4242", LISTED), Err(UserError::NoGroup(4242)));
        for text in ["guest:", "guest:users", "guest:-1", "guest:4294967295"] {
            assert!(matches!(User::find(text, LISTED), Err(UserError::Group(_))), "{text}");
        }
    }
}
