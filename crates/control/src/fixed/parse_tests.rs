use super::*;

fn refusals(list: &List) -> Vec<(usize, &str)> {
    list.refused.iter().map(|refused| (refused.line.expect("line"), refused.reason.as_str())).collect()
}

#[test]
fn good_entries_are_taken_and_bad_ones_are_refused_by_line() {
    let text = r#"[
  // The server.
  {"id": "instance-0", "name": "Server", "agent": "http://10.0.0.7:8080/", "token_file": "t/0"},
  {"id": "instance-1", "agent": "http://agent//path/"}, /* two
  lines */ {"id": "instance-1", "agent": "http://x"},
  {"id": "instance-2",
   "agent" "http://x"},
  {"id": "instance-9999", "agent": "http://x"},
  {"id": 3, "agent": "http://x"}, {"agent": "http://x"},
  {"id": "instance-3"},
  7, "text", null, [],
  {"id": "instance-4", "agent": "http://10.0.0.7:8080"},
  {"id": "instance-5", "agent": "http://y", "tokenfile": "t"},
  {"id": "instance-6", "agent": "ftp://y"},
  {"id": "instance-6", "agent": "http://ada:secret@y"},
  {"id": "instance-6", "agent": "no url"},
  {"id": "instance-6", "agent": "http://y?a=b"},
  {"id": "instance-6", "agent": "http://y", "name": ""},
  {"id": "instance-6", "agent": "http://y", "name": "unclosed},
  {"id": "instance-6", "agent": ["http://y"},
  {"id": "instance-8", "agent": "http://[::1]:8080", "name": "N//one \" [{"},
]
"#;
    let list = parse(text).expect("an array");
    let taken: Vec<_> = list.entries.iter().map(|entry| (entry.line, entry.id.index(), entry.agent.as_str())).collect();
    assert_eq!(taken, [(3, 0, "http://10.0.0.7:8080"), (4, 1, "http://agent//path"), (21, 8, "http://[::1]:8080")]);
    assert_eq!(list.entries[0].token_file, Some("t/0".into()));
    assert_eq!(list.entries[2].name.as_deref(), Some("N//one \" [{"));
    let wanted = [
        (5, "instance-1 is there already, in line 4"),
        (6, "no JSON: expected `:` in line 7"),
        (8, "id: unknown instance \"instance-9999\""),
        (9, "id is a number"),
        (9, "id is missing"),
        (10, "agent is missing"),
        (11, "an entry is a number"),
        (11, "an entry is text"),
        (11, "an entry is null"),
        (11, "an entry is an array"),
        (12, "is that of instance-0 already"),
        (13, "unknown key \"tokenfile\": allowed are id, name, agent, token_file"),
        (14, "is not http"),
        (15, "secrets belong into token_file"),
        (16, "is no URL"),
        (17, "more or less"),
        (18, "name has 0 characters"),
        (19, "no JSON"),
        (20, "no JSON"),
    ];
    let refused = refusals(&list);
    assert_eq!(refused.len(), wanted.len(), "{refused:#?}");
    for ((line, reason), (wanted_line, part)) in refused.iter().zip(wanted) {
        assert!(*line == wanted_line && reason.contains(part), "line {line}: {reason}; wanted {wanted_line}: {part}");
        assert!(!reason.contains("secret@"), "{reason}");
    }
}

#[test]
fn files_of_the_earlier_system_are_read_where_they_map() {
    let text = r#"[
  {"id": "instance-0", "streamUrl": "/proxy/vnc/instance-0", "vncUrl": "a:5901", "healthUrl": "http://10.1.1.1:8080",
   "name": "Windows 98 - Game Server", "description": "d", "provisioned": true, "ready": false, "status": "booting"},
  {"id": "instance-1", "healthUrl": "http://10.1.1.2:8080/health", "localVncUrl": "localhost:5902"},
  {"id": "instance-2", "streamUrl": "/proxy/vnc/instance-2"},
  {"id": "instance-3", "healthUrl": "http://10.1.1.4:8080", "provisioned": false}
]"#;
    let list = parse(text).expect("an array");
    let agents: Vec<_> = list.entries.iter().map(|entry| entry.agent.as_str()).collect();
    assert_eq!(agents, ["http://10.1.1.1:8080", "http://10.1.1.2:8080"]);
    assert_eq!(list.entries[0].name.as_deref(), Some("Windows 98 - Game Server"));
    let refused = refusals(&list);
    assert!(refused[0].1.contains("agent is missing") && refused[1].1.contains("not provisioned"), "{refused:?}");
}

#[test]
fn what_is_no_whole_array_is_refused_as_a_whole() {
    for (text, part) in [
        ("", "is empty"),
        (" \n // nothing\n", "is empty"),
        ("{}", "line 1 does not begin an array"),
        ("\n\"[]\"", "line 2 does not begin"),
        ("[{\"id\": \"instance-0\"", "is not closed"),
        ("[", "is not closed"),
        ("[1, /* ]", "is not closed"),
        ("[]\n[]", "more after the array, in line 2"),
    ] {
        let error = parse(text).expect_err(text);
        assert!(error.contains(part), "{text:?}: {error}");
    }
    for text in ["[]", "\u{feff}[ ]\r\n", "[ /* none */ ] // none"] {
        assert_eq!(parse(text), Ok(List::default()), "{text:?}");
    }
    assert_eq!(parse("[,]").expect("an array").refused.len(), 1);
}

#[test]
fn floods_of_bad_entries_are_told_in_short() {
    let list = parse(&format!("[{}0]", "0,".repeat(5_000))).expect("an array");
    assert_eq!(list.refused.len(), MAX_REFUSED + 1);
}

/// Whatever the bytes, there is an answer.
#[test]
fn no_text_breaks_it() {
    let good = r#"[{"id": "instance-0", "agent": "http://a:1", "name": "ü\"\\"}, // x
 {"id": "instance-1", "agent": "http://b:1"} /* y */ ]"#;
    for (place, _) in good.char_indices() {
        for change in ["", "\"", "[", "}", "\\", "/*", ",", "\n", "\u{0}", "é"] {
            let changed = format!("{}{change}{}", &good[..place], &good[place..]);
            if let Ok(list) = parse(&changed) {
                assert!(list.entries.len() + list.refused.len() <= 8, "{changed}");
            }
            let next = good[place..].chars().next().map_or(place, |c| place + c.len_utf8());
            let _ = parse(&format!("{}{change}{}", &good[..place], &good[next..]));
        }
    }
}

#[test]
fn an_owner_is_named_and_never_assumed() {
    let entry = |more: &str| format!(r#"[{{"id": "instance-0", "agent": "http://a"{more}}}]"#);
    for (more, supervised) in [("", false), (r#", "supervised": null"#, false), (r#", "supervised": true"#, true)] {
        let list = parse(&entry(more)).expect("an array");
        assert_eq!(list.entries.iter().map(|entry| entry.supervised).collect::<Vec<_>>(), [supervised], "{more}");
    }
    let refused = parse(&entry(r#", "supervised": "systemd""#)).expect("an array").refused;
    assert!(refused[0].reason.contains("supervised is text: expected true or false"), "{refused:?}");
}
