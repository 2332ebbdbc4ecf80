//! Who this viewer is: a random id for machines, user and host for people.

use loco_model::usage::InputHolder;

/// Longest name that is told, in characters.
const LONGEST: usize = 64;

/// This viewer, under `name` or as user and host.
#[must_use]
pub fn identity(name: Option<&str>) -> InputHolder {
    let name = name.map_or_else(|| format!("{}@{}", user(), host()), str::to_owned);
    let name = name.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
    InputHolder { viewer: format!("{:032x}", rand::random::<u128>()), name }
}

fn user() -> String {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    variable("USER").or_else(|| variable("LOGNAME")).or_else(account).unwrap_or_else(|| "someone".to_owned())
}

/// The account's name in the system's list: services have no USER.
fn account() -> Option<String> {
    let list = std::fs::read_to_string("/etc/passwd").ok()?;
    let me = rustix::process::getuid().as_raw().to_string();
    let line = list.lines().find(|line| line.split(':').nth(2) == Some(&me))?;
    line.split(':').next().map(str::to_owned)
}

fn host() -> String {
    let read = |path| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let name = read("/proc/sys/kernel/hostname").or_else(|| std::env::var("HOSTNAME").ok());
    // The first part tells people enough.
    let short = name.and_then(|name| name.split('.').next().map(str::to_owned)).filter(|name| !name.is_empty());
    short.unwrap_or_else(|| "a computer".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_own_id_and_a_name_for_people() {
        let (one, other) = (identity(None), identity(Some("Ada\n@desk")));
        assert_ne!(one.viewer, other.viewer);
        assert_eq!(one.viewer.len(), 32);
        assert!(one.name.contains('@') && one.name.len() >= 3, "{}", one.name);
        assert_eq!(other.name, "Ada@desk");
        assert_eq!(identity(Some(&"x".repeat(500))).name.len(), LONGEST);
    }
}
