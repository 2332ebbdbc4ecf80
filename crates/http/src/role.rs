//! What a token's bearer may do, and which route needs what.

use axum::http::Method;
use std::fmt;
use std::str::FromStr;

/// What a token's bearer may do. Each role may all that the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Look and listen.
    View,
    /// Give input too, and say which instances are in use.
    Play,
    /// Repair, configure, restart too.
    Operate,
}

/// Not a role's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown role {0:?}: allowed are view, play and operate")]
pub struct UnknownRole(pub String);

// === impl Role ===

impl Role {
    /// All roles, the weakest first.
    pub const ALL: [Self; 3] = [Self::View, Self::Play, Self::Operate];

    /// The role's name, as in token files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Play => "play",
            Self::Operate => "operate",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| UnknownRole(text.chars().take(32).collect()))
    }
}

/// Which role a method on a path needs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules(Vec<Rule>);

#[derive(Clone, Debug)]
struct Rule {
    method: Method,
    path: &'static str,
    role: Role,
}

// === impl Rules ===

impl Rules {
    pub(crate) fn add(&mut self, method: Method, path: &'static str, role: Role) {
        self.0.push(Rule { method, path, role });
    }

    /// The role of the longest rule that fits. Without one, reading needs [`Role::View`] and everything else
    /// [`Role::Operate`], so that a route that was forgotten is closed rather than open.
    pub(crate) fn needed(&self, method: &Method, path: &str) -> Role {
        // Our servers answer HEAD like GET.
        let method = if method == Method::HEAD { &Method::GET } else { method };
        let fitting = self.0.iter().filter(|rule| rule.method == *method && covers(rule.path, path));
        match fitting.max_by_key(|rule| segments(rule.path).count()) {
            Some(rule) => rule.role,
            None if [Method::GET, Method::OPTIONS].contains(method) => Role::View,
            None => Role::Operate,
        }
    }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

/// Whether `pattern` is the beginning of `path`, segment by segment; `*` is any one segment.
fn covers(pattern: &str, path: &str) -> bool {
    let mut path = segments(path);
    segments(pattern).all(|wanted| path.next().is_some_and(|segment| wanted == "*" || wanted == segment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_ordered_and_named() {
        assert!(Role::View < Role::Play && Role::Play < Role::Operate);
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        let Err(error) = "admin".parse::<Role>() else { panic!("no role") };
        assert!(error.to_string().contains("\"admin\"") && error.to_string().contains("operate"), "{error}");
    }

    #[test]
    fn the_longest_rule_decides_and_what_has_none_is_closed() {
        let mut rules = Rules::default();
        rules.add(Method::POST, "/a", Role::Play);
        rules.add(Method::POST, "/a/*/stop", Role::Operate);
        rules.add(Method::POST, "/a/*/look", Role::View);
        rules.add(Method::GET, "/secret", Role::Operate);
        for (method, path, want) in [
            (Method::GET, "/", Role::View),
            (Method::HEAD, "/x", Role::View),
            (Method::OPTIONS, "/x", Role::View),
            (Method::POST, "/x", Role::Operate),
            (Method::DELETE, "/a", Role::Operate),
            (Method::TRACE, "/a", Role::Operate),
            (Method::POST, "/a", Role::Play),
            (Method::POST, "/a/", Role::Play),
            (Method::POST, "/a/b", Role::Play),
            (Method::POST, "/ab", Role::Operate),
            (Method::POST, "/a/1/stop", Role::Operate),
            (Method::POST, "/a/1/stop/now", Role::Operate),
            (Method::POST, "/a/1/look", Role::View),
            (Method::POST, "/a/1/2/look", Role::Play),
            (Method::GET, "/secret", Role::Operate),
            (Method::HEAD, "/secret/x", Role::Operate),
        ] {
            assert_eq!(rules.needed(&method, path), want, "{method} {path}");
        }
    }
}
