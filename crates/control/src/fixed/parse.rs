//! instances.json: an array of entries, read one by one, so that one bad entry costs only itself. A pure function.

use loco_model::InstanceId;
use loco_model::api::RefusedEntry;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

/// Keys that an entry may have.
const KEYS: [&str; 5] = ["id", "name", "agent", "token_file", "supervised"];
/// Keys of the earlier system that are of no use here: pages, VNC addresses, and its own findings.
const IGNORED_KEYS: [&str; 14] = [
    "description",
    "streamUrl",
    "vncUrl",
    "videoStreamUrl",
    "ready",
    "status",
    "podName",
    "addresses",
    "ports",
    "health",
    "discoveredAt",
    "kubernetes",
    "probe",
    "index",
];
/// Longest name, in characters.
const MAX_NAME: usize = 64;
/// Most refused entries that are told; the count of the others is.
const MAX_REFUSED: usize = 100;

/// One good entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) line: usize,
    pub(super) id: InstanceId,
    pub(super) name: Option<String>,
    /// Base URL, without a trailing slash.
    pub(super) agent: String,
    pub(super) token_file: Option<PathBuf>,
    /// Whether its owner starts the agent again when it ends.
    pub(super) supervised: bool,
}

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct List {
    pub(super) entries: Vec<Entry>,
    pub(super) refused: Vec<RefusedEntry>,
}

// === impl List ===

impl List {
    pub(super) fn refuse(&mut self, line: usize, reason: impl Into<String>) {
        match self.refused.len() {
            0..MAX_REFUSED => self.refused.push(RefusedEntry { line: Some(line), reason: reason.into() }),
            MAX_REFUSED => self.refused.push(RefusedEntry { line: None, reason: "and more".to_owned() }),
            _ => {}
        }
    }
}

/// Reads a file's text. `//` and `/* */` are comments, as the earlier system's files have them.
///
/// # Errors
/// When it is no whole array: it may be half written, and what it lacks must not be taken for gone.
pub(super) fn parse(text: &str) -> Result<List, String> {
    let text = without_comments(text.trim_start_matches('\u{feff}'));
    let mut list = List::default();
    let (mut lines, mut agents) = (BTreeMap::new(), BTreeMap::new());
    for range in elements(&text)? {
        let line = line_of(&text, range.start);
        match entry(&text[range], line) {
            Ok(entry) => {
                if let Some(first) = lines.get(&entry.id) {
                    list.refuse(line, format!("{} is there already, in line {first}", entry.id));
                } else if let Some(other) = agents.get(&entry.agent) {
                    list.refuse(line, format!("agent {} is that of {other} already", entry.agent));
                } else {
                    lines.insert(entry.id, line);
                    agents.insert(entry.agent.clone(), entry.id);
                    list.entries.push(entry);
                }
            }
            Err(reason) => list.refuse(line, reason),
        }
    }
    Ok(list)
}

fn entry(text: &str, line: usize) -> Result<Entry, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| no_json(&error, line))?;
    let Value::Object(fields) = value else {
        return Err(format!("an entry is {}: expected an object", kind(&value)));
    };
    if let Some(unknown) = fields.keys().find(|key| !is_known(key)) {
        return Err(format!("unknown key {unknown:?}: allowed are {}", KEYS.join(", ")));
    }
    let id: InstanceId = match text_of(&fields, "id")? {
        Some(id) => id.parse().map_err(|error| format!("id: {error}"))?,
        None => return Err("id is missing".to_owned()),
    };
    if fields.get("provisioned") == Some(&Value::Bool(false)) {
        return Err(format!("{id} is not provisioned"));
    }
    let name = text_of(&fields, "name")?;
    if let Some(name) = name.filter(|name| name.trim().is_empty() || name.chars().count() > MAX_NAME) {
        return Err(format!("name has {} characters: allowed are 1 to {MAX_NAME}", name.trim().chars().count()));
    }
    let agent = match (text_of(&fields, "agent")?, text_of(&fields, "healthUrl")?) {
        (Some(agent), _) => base_url("agent", agent)?,
        (None, Some(url)) => base_url("healthUrl", url.trim_end_matches('/').trim_end_matches("/health"))?,
        (None, None) => return Err("agent is missing: the URL at which its agent answers".to_owned()),
    };
    let token_file = text_of(&fields, "token_file")?.map(PathBuf::from);
    let supervised = match fields.get("supervised") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(supervised)) => *supervised,
        Some(other) => return Err(format!("supervised is {}: expected true or false", kind(other))),
    };
    Ok(Entry { line, id, name: name.map(str::to_owned), agent, token_file, supervised })
}

/// Whether a key may stand in an entry. Addresses for the machine of the developer began with `local`.
fn is_known(key: &str) -> bool {
    KEYS.contains(&key)
        || IGNORED_KEYS.contains(&key)
        || ["healthUrl", "provisioned"].contains(&key)
        || (key.starts_with("local") && key.ends_with("Url"))
}

fn text_of<'a>(fields: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>, String> {
    match fields.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(format!("{key} is {}: expected text", kind(other))),
    }
}

fn base_url(key: &str, text: &str) -> Result<String, String> {
    let wrong = |why: &str| Err(format!("{key} {text:?} {why}: expected a URL such as \"http://10.0.0.7:8080\""));
    let Ok(url) = reqwest::Url::parse(text) else { return wrong("is no URL") };
    if url.scheme() != "http" {
        return wrong("is not http");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("{key} holds a user or a password: secrets belong into token_file"));
    }
    if url.host_str().is_none_or(str::is_empty) || url.query().is_some() || url.fragment().is_some() {
        return wrong("has more or less than host, port and path");
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The error with the line of the whole file.
fn no_json(error: &serde_json::Error, first_line: usize) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    format!("no JSON: {text} in line {}", first_line + error.line().saturating_sub(1))
}

/// Line of a place, 1...
fn line_of(text: &str, place: usize) -> usize {
    1 + text.as_bytes()[..place].iter().filter(|byte| **byte == b'\n').count()
}

/// The same text with blanks in place of comments, so that lines stay.
fn without_comments(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let (mut at, mut in_text) = (0, false);
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = match bytes[at] {
            b'\\' if in_text => Some(at + 2),
            b'"' => {
                in_text = !in_text;
                None
            }
            b'\n' => {
                in_text = false;
                None
            }
            b'/' if !in_text && rest.starts_with(b"//") => {
                let length = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
                bytes[at..at + length].fill(b' ');
                Some(at + length)
            }
            b'/' if !in_text && rest.starts_with(b"/*") => {
                let close = rest.windows(2).skip(2).position(|two| two == b"*/").map(|place| place + 4);
                let length = close.unwrap_or(rest.len());
                bytes[at..at + length].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
                Some(at + length)
            }
            _ => None,
        };
        at = end.unwrap_or(at + 1);
    }
    // Only whole comments became blanks: what was UTF-8 still is.
    String::from_utf8(bytes).unwrap_or_default()
}

/// Where the array's elements are. Tolerant of what is wrong within one of them.
fn elements(text: &str) -> Result<Vec<Range<usize>>, String> {
    let bytes = text.as_bytes();
    let blank = |byte: &u8| byte.is_ascii_whitespace();
    let begin = match bytes.iter().position(|byte| !blank(byte)) {
        Some(place) if bytes[place] == b'[' => place + 1,
        Some(place) => return Err(format!("line {} does not begin an array", line_of(text, place))),
        None => return Err("it is empty: expected an array of instances".to_owned()),
    };
    let mut found = Vec::new();
    let mut take = |range: Range<usize>, is_last: bool| {
        let element = &bytes[range.clone()];
        match element.iter().position(|byte| !blank(byte)) {
            Some(place) => found.push(range.start + place..range.end),
            // `[]`, or a comma at the end, which people leave there.
            None if is_last => {}
            None => found.push(range),
        }
    };
    let (mut open, mut in_text, mut start, mut at) = (Vec::new(), false, begin, begin);
    // The last place where an element may have ended, while nothing stands behind it.
    let mut comma = None;
    while at < bytes.len() {
        let byte = bytes[at];
        let after_comma = comma;
        if !blank(&byte) {
            comma = None;
        }
        match byte {
            b'\\' if in_text => at += 1,
            b'"' => in_text = !in_text,
            // No text goes beyond its line: a quote is missing, and perhaps a comma with it.
            b'\n' if in_text => {
                in_text = false;
                comma = Some(at);
            }
            _ if in_text => {}
            b'{' if open == [b'{'] && after_comma.is_some() => {
                // A key must stand here: the element before was never closed.
                take(start..after_comma.unwrap_or(at), false);
                start = at;
            }
            b'[' | b'{' => open.push(byte),
            b',' if open.is_empty() => {
                take(start..at, false);
                start = at + 1;
            }
            b',' => comma = Some(at),
            b']' if open.is_empty() => {
                take(start..at, true);
                return match bytes[at + 1..].iter().position(|byte| !blank(byte)) {
                    None => Ok(found),
                    Some(more) => {
                        Err(format!("there is more after the array, in line {}", line_of(text, at + 1 + more)))
                    }
                };
            }
            b']' if !open.contains(&b'[') && bytes[at + 1..].iter().all(blank) => {
                take(start..at, true);
                return Ok(found);
            }
            b']' | b'}' => {
                let opener = if byte == b']' { b'[' } else { b'{' };
                // One that was never opened is left to the element's own reader; others close what is open within.
                if let Some(depth) = open.iter().rposition(|known| *known == opener) {
                    open.truncate(depth);
                }
            }
            _ => {}
        }
        at += 1;
    }
    Err(format!("the array that begins in line {} is not closed", line_of(text, begin)))
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
