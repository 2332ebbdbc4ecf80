use super::*;

fn refused(json: &str) -> String {
    match Profile::parse(json, "test", Path::new("/profiles")) {
        Ok(profile) => panic!("accepted: {profile:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn demo_is_accepted_and_survives_a_round_trip() {
    let demo = Profile::builtin("demo").expect("demo");
    assert_eq!(demo.kernel.as_ref().map(|k| &k.image), Some(&KernelImage::BuiltinDemo));
    let text = serde_json::to_string(&demo).expect("json");
    assert_eq!(Profile::parse(&text, "again", Path::new("/")).expect("again"), demo);
    assert!(Profile::builtin("win95").is_err_and(|e| e.to_string().contains("\"win95\"")));
}

#[test]
fn errors_name_the_value_and_what_is_allowed() {
    for (json, parts) in [
        (r#"{"name":"x","hardware":{"memroy_mib":64}}"#, &["memroy_mib", "did you mean `memory_mib`"][..]),
        (r#"{"name":"x","hardvare":{}}"#, &["hardvare", "did you mean `hardware`"]),
        (r#"{"name":"x","audio":{"card":"sb17"}}"#, &["sb17", "did you mean `sb16`"]),
        (r#"{"name":"x","network":{"mode":"bridge"}}"#, &["bridge", "`none`"]),
        (r#"{"hardware":{}}"#, &["missing field `name`"]),
        (r#"{"name":"x","hardware":{"memory_mib":0}}"#, &["hardware.memory_mib", "is 0", "1 to"]),
        (r#"{"name":"x","hardware":{"machine":"microvm"}}"#, &["microvm", "q35"]),
        (r#"{"name":"x","hardware":{"cpu":"max -S"}}"#, &["hardware.cpu", "max -S"]),
        (r#"{"name":"x","hardware":{"boot":["cdrom"]}}"#, &["hardware.boot[0]", "no such device"]),
        (r#"{"name":"x","display":{"card":"cirrus","memory_mib":64}}"#, &["display.memory_mib", "64", "4 to 16"]),
        (r#"{"name":"x","display":{"preferred_width":800}}"#, &["preferred_height"]),
        (r#"{"name":"x","disks":[{"kind":"cdrom"}]}"#, &["disks[0].file", "missing"]),
        (r#"{"name":"x","disks":[{"kind":"disk","file":"a","size_mib":5}]}"#, &["disks[0].size_mib", "own size"]),
        (r#"{"name":"x","disks":[{"kind":"floppy","file":"a","writes":"persistent"}]}"#, &["disks[0].writes"]),
        (r#"{"name":"x","#, &["EOF", "line 1"]),
        (r#"{"name":"x","kernel":{"image":"a"},"hardware":{"firmware":"uefi"}}"#, &["hardware.firmware", "SeaBIOS"]),
    ] {
        let error = refused(json);
        for part in parts {
            assert!(error.contains(part), "{json}: {error:?} lacks {part:?}");
        }
    }
    let five = r#"{"kind":"disk","size_mib":1}"#;
    assert!(refused(&format!(r#"{{"name":"x","disks":[{}]}}"#, [five; 5].join(","))).contains("4 places"));
}

#[test]
fn paths_are_relative_to_the_file() {
    let json = r#"{"name":"x","hardware":{"firmware":{"file":"bios.bin"}},
        "disks":[{"kind":"disk","file":"win.qcow2","format":"qcow2"},{"kind":"cdrom","file":"/cd.iso"}]}"#;
    let profile = Profile::parse(json, "x", Path::new("/profiles")).expect("profile");
    assert_eq!(profile.disks[0].file.as_deref(), Some(Path::new("/profiles/win.qcow2")));
    assert_eq!(profile.disks[1].file.as_deref(), Some(Path::new("/cd.iso")));
    assert_eq!(profile.hardware.firmware, Firmware::File("/profiles/bios.bin".into()));
    let error = Profile::load(Path::new("/nowhere/x.json")).expect_err("no such file");
    assert!(error.to_string().contains("/nowhere/x.json"));
}

#[test]
fn kernel_arguments_are_replaced() {
    let mut demo = Profile::builtin("demo").expect("demo");
    assert!(demo.set_kernel_argument("mode", "quiet"));
    let line = &demo.kernel.as_ref().expect("kernel").command_line;
    assert_eq!(line, "instance={instance} size=640x480 music=off mode=quiet");
    demo.kernel = None;
    assert!(!demo.set_kernel_argument("mode", "quiet"));
}
