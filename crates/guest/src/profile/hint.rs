//! "Did you mean …?" for keys and values that no profile has.

/// Adds the nearest allowed name to serde's message about an unknown field or variant; other messages are left alone.
pub(super) fn with_hint(message: &str) -> String {
    let unknown = ["unknown field `", "unknown variant `"].iter().any(|start| message.starts_with(start));
    // serde's words: unknown field `a`, expected one of `b`, `c` at line 1 column 2
    let mut names = message.split('`').skip(1).step_by(2);
    let (true, Some(given)) = (unknown, names.next()) else { return message.to_owned() };
    match nearest(given, names) {
        Some(near) => format!("{message}; did you mean `{near}`?"),
        None => message.to_owned(),
    }
}

/// The name most like `given`, if it is like it at all: at most half of its letters (and one) differ.
fn nearest<'a>(given: &str, allowed: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (name, distance) = allowed.map(|name| (name, distance(given, name))).min_by_key(|(_, d)| *d)?;
    (distance <= given.chars().count() / 2 + 1).then_some(name)
}

/// Levenshtein's distance: letters to insert, delete or change.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_name() {
        let names = ["machine", "memory_mib", "cpu", "cpus", "usb_tablet"];
        for (given, near) in [
            ("memroy_mib", Some("memory_mib")),
            ("memory", Some("memory_mib")),
            ("usbTablet", Some("usb_tablet")),
            ("cpuz", Some("cpu")),
            ("zzzzzz", None),
        ] {
            assert_eq!(nearest(given, names.into_iter()), near, "{given}");
        }
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
