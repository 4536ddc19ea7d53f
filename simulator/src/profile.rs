//! Permission profiles of a run's credentials, as data and as a model that knows no code of the core.

/// The rights of one credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Profile {
    /// Reads and writes everything.
    Everything,
    /// Reads everything, writes `cars` and `misc`.
    NoSecrets,
    /// Reads some documents and writes others: both, one of the two, or neither, by the id.
    Overlapping,
    /// Reads `cars` and `misc`, writes nothing.
    Reader,
    /// Writes `cars` and `misc`, reads nothing.
    Writer,
    /// Neither reads nor writes.
    Nothing,
}

impl Profile {
    /// Every profile that is drawn.
    pub(crate) const ALL: [Self; 6] = [
        Self::Everything,
        Self::NoSecrets,
        Self::Overlapping,
        Self::Reader,
        Self::Writer,
        Self::Nothing,
    ];

    /// The profile that reads the same and writes something else, where there is one: under it nothing is read anew,
    /// and what was refused is taken.
    pub(crate) const fn other_writer(self) -> Option<Self> {
        match self {
            Self::Everything => Some(Self::NoSecrets),
            Self::NoSecrets => Some(Self::Everything),
            Self::Nothing => Some(Self::Writer),
            Self::Writer => Some(Self::Nothing),
            Self::Overlapping | Self::Reader => None,
        }
    }

    /// The text of the key that has these rights.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Everything => "abcdefghij-everything",
            Self::NoSecrets => "restricted-some",
            Self::Overlapping => "overlapping-halves",
            Self::Reader => "onlyreading-key",
            Self::Writer => "onlywriting-key",
            Self::Nothing => "nothing-at-all-key",
        }
    }

    /// The permission object of the key.
    pub(crate) const fn permissions(self) -> &'static str {
        match self {
            Self::Everything => r#"{"read":{"everything":true},"write":{"everything":true}}"#,
            Self::NoSecrets => {
                r#"{"read":{"everything":true},"write":{"everything":false,
                    "queriesByCollection":{"cars":["true"],"misc":["true"]}}}"#
            }
            Self::Overlapping => {
                r#"{"read":{"everything":false,"queriesByCollection":{
                        "cars":["_id < 'd15'","_id > 'k1'"],"misc":["true"]}},
                    "write":{"everything":false,"queriesByCollection":{
                        "cars":["_id >= 'd12' && _id < 'k3'"],"misc":["true"]}}}"#
            }
            Self::Reader => {
                r#"{"read":{"everything":false,
                        "queriesByCollection":{"cars":["true"],"misc":["true"]}},
                    "write":{"everything":false}}"#
            }
            Self::Writer => {
                r#"{"read":{"everything":false},
                    "write":{"everything":false,
                        "queriesByCollection":{"cars":["true"],"misc":["true"]}}}"#
            }
            Self::Nothing => r#"{"read":{"everything":false},"write":{"everything":false}}"#,
        }
    }

    /// Whether the holder of the key may read a document.
    pub(crate) fn may_read(self, collection: &str, id: &str) -> bool {
        match self {
            Self::Everything | Self::NoSecrets => true,
            Self::Overlapping if collection == "cars" => !("d15"..="k1").contains(&id),
            Self::Overlapping => collection == "misc",
            Self::Reader => matches!(collection, "cars" | "misc"),
            Self::Writer | Self::Nothing => false,
        }
    }

    /// Whether the holder of the key may write a document.
    pub(crate) fn may_write(self, collection: &str, id: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::NoSecrets | Self::Writer => matches!(collection, "cars" | "misc"),
            Self::Overlapping if collection == "cars" => ("d12".."k3").contains(&id),
            Self::Overlapping => collection == "misc",
            Self::Reader | Self::Nothing => false,
        }
    }
}

/// The rights of one credential over a run: they may change.
#[derive(Clone, Debug)]
pub(crate) struct Rights {
    pub(crate) now: Profile,
    /// The profiles before it, oldest first.
    former: Vec<Profile>,
    /// Since when no session begins with the former ones.
    since_ns: u64,
    /// Until when the former ones may still be in force.
    until_ns: u64,
}

impl Rights {
    pub(crate) fn new(now: Profile) -> Self {
        Self { now, former: Vec::new(), since_ns: 0, until_ns: 0 }
    }

    /// The credential is given other rights; until it is settled the former ones may be in force as well.
    pub(crate) fn change(&mut self, to: Profile) {
        self.former.push(self.now);
        self.now = to;
        self.since_ns = u64::MAX;
        self.until_ns = u64::MAX;
    }

    /// The server has said that the change is made: it is in force everywhere at that moment, and what former sessions
    /// had on their way has come by another one.
    pub(crate) fn settle(&mut self, since_ns: u64, until_ns: u64) {
        self.since_ns = since_ns;
        self.until_ns = until_ns;
    }

    /// Whether a session that began then goes by the present rights.
    pub(crate) fn are_of_sessions_since(&self, opened_ns: u64) -> bool {
        opened_ns >= self.since_ns
    }

    /// Whether the former rights may still be in force.
    pub(crate) fn is_changing(&self, now_ns: u64) -> bool {
        now_ns < self.until_ns
    }

    /// The profile that it was made with.
    pub(crate) fn first(&self) -> Profile {
        self.former.first().copied().unwrap_or(self.now)
    }

    fn ever(&self) -> impl Iterator<Item = Profile> + '_ {
        self.former.iter().copied().chain([self.now])
    }

    /// Whether anything about the document may be told at that moment.
    pub(crate) fn may_be_told(&self, collection: &str, id: &str, now_ns: u64) -> bool {
        let newest = self.former.last().filter(|_| self.is_changing(now_ns)).copied();
        newest.into_iter().chain([self.now]).any(|profile| profile.may_read(collection, id))
    }

    /// Whether the document must come, and anything of it may be there.
    pub(crate) fn must_read(&self, collection: &str, id: &str) -> bool {
        self.now.may_read(collection, id)
    }

    /// Whether the document may be there, from a time when it was allowed.
    pub(crate) fn may_hold(&self, collection: &str, id: &str) -> bool {
        self.ever().any(|profile| profile.may_read(collection, id))
    }

    /// Whether the server must have what is written there.
    pub(crate) fn must_write(&self, collection: &str, id: &str) -> bool {
        self.now.may_write(collection, id)
    }

    /// Whether the server may have what was written there, from a time when it was allowed.
    pub(crate) fn may_have_written(&self, collection: &str, id: &str) -> bool {
        self.ever().any(|profile| profile.may_write(collection, id))
    }
}

/// The text and the name of the key that one device has for itself.
pub(crate) fn own_key(number: usize) -> (String, String) {
    (format!("own{number:07}-key"), format!("device {number}"))
}

#[cfg(test)]
mod tests {
    use bigpeer_core::auth::Permissions;
    use bigpeer_core::value::canonical::encode_text_id;
    use bigpeer_core::value::json;

    use super::*;

    #[test]
    fn the_model_says_what_the_permission_objects_say() {
        for profile in Profile::ALL {
            let text = profile.permissions().as_bytes();
            let value = json::parse(text, json::Limits::default()).expect("it is JSON");
            let permissions = Permissions::from_value(&value).expect("it is a permission");
            for (collection, id) in ["d0", "d12", "d15", "d2", "k0", "k2", "k3"]
                .map(|id| ("cars", id))
                .into_iter()
                .chain([("misc", "e1"), ("secret", "s1")])
            {
                let key = encode_text_id(id).expect("the id is short");
                let (read, write) = (&permissions.read, &permissions.write);
                let name = format!("{profile:?} {id}");
                assert_eq!(
                    read.covers(collection, &key),
                    profile.may_read(collection, id),
                    "{name}"
                );
                assert_eq!(
                    write.covers(collection, &key),
                    profile.may_write(collection, id),
                    "{name}"
                );
            }
        }
    }
}
