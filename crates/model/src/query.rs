//! Values of a query that are not allowed are answered with the value and what is allowed: for `deserialize_with`. Which
//! parameter it was, the query's own deserializer says.

use serde::de::{Deserialize as _, Deserializer, Error};

/// Most characters of a value that are repeated in an error.
const SHOWN: usize = 64;

/// A whole number of 0 to `MOST`, told in the field's unit; for a field that may be left out (`default`).
///
/// # Errors
/// When it is none, or a larger one.
pub fn whole<'de, D: Deserializer<'de>, const MOST: u64>(value: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(value)?;
    let number = text.parse().ok().filter(|number| *number <= MOST);
    number.map(Some).ok_or_else(|| refused(&text, &format!("whole numbers of 0 to {MOST}")))
}

/// `true` or `false`; for a field that may be left out (`default`).
///
/// # Errors
/// When it is neither.
pub fn flag<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    let text = String::deserialize(value)?;
    text.parse().map_err(|_| refused(&text, "true and false"))
}

fn refused<E: Error>(text: &str, allowed: &str) -> E {
    let text: String = text.chars().take(SHOWN).collect();
    E::custom(format!("{text:?}: allowed are {allowed}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::IntoDeserializer;
    use serde::de::value::Error as Told;

    fn number(text: &str) -> Result<Option<u64>, String> {
        let value = IntoDeserializer::<Told>::into_deserializer(text);
        whole::<_, 1_000>(value).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_allowed_is_named_with_what_is() {
        for (text, value) in [("0", 0), ("7", 7), ("1000", 1_000)] {
            assert_eq!(number(text), Ok(Some(value)));
        }
        for text in ["", "x", "-1", "1e3", "1001", "99999999999999999999"] {
            let told = format!("{text:?}: allowed are whole numbers of 0 to 1000");
            assert_eq!(number(text), Err(told));
        }
        let long = number(&"9".repeat(100)).expect_err("too large");
        assert!(long.starts_with(&format!("\"{}\":", "9".repeat(SHOWN))), "{long}");
        for (text, value) in
            [("true", Ok(true)), ("false", Ok(false)), ("maybe", Err("\"maybe\": allowed are true and false"))]
        {
            let told: Result<bool, String> =
                flag(IntoDeserializer::<Told>::into_deserializer(text)).map_err(|error| error.to_string());
            assert_eq!(told, value.map_err(str::to_owned));
        }
    }
}
