//! The whole viewer without a window, on whatever adapter there is (here: Mesa's CPU rasteriser), with pictures made here.
//! What is checked is read from the presented target.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may end where it stands")]

mod common;

use base64::Engine as _;
use common::{BLUE, GREEN, Made, PATIENCE, RED, VGA, Viewer, id, instance, rect};
use loco_model::api::Endpoints;
use loco_model::input::KeysEvent;
use loco_model::look::{DARK, Rgb, instance_colour};
use loco_model::{InstanceState, Size};
use loco_viewer::app::Event;
use loco_viewer::control::Update;
use loco_viewer::{ViewArgs, ViewError, run_with};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[test]
fn the_wall_is_drawn_as_it_should_look() {
    let mut viewer = Viewer::start(4);
    for (n, colour) in [RED, GREEN, BLUE, [126, 128, 128]].into_iter().enumerate() {
        viewer.links[n].show(Made::new(VGA, colour));
    }
    let wall = viewer.all_shown();
    (viewer.post)(Event::Control(Update::One(Box::new(instance(3, InstanceState::Recovering)))));
    viewer.ask(json!({"cmd": "focus", "tile": "instance-1"})).unwrap();
    let shot = viewer.shot();
    shot.check(2, 2, DARK.surface, "bar");
    shot.check(3, 500, DARK.background, "between tiles");
    for (n, want) in [Rgb(255, 0, 0), Rgb(0, 255, 0), Rgb(0, 0, 255)].into_iter().enumerate() {
        let [x, y, width, height] = rect(&wall["tiles"][n]["picture"]);
        assert!((width * 3).abs_diff(height * 4) <= 4, "4:3, not {width}x{height}");
        for (x, y) in [(x, y), (x + width - 1, y + height - 1), (x + width / 2, y + height / 2)] {
            shot.check(x, y, want, "picture");
        }
        let [left, top, _, tile_height] = rect(&wall["tiles"][n]["tile"]);
        shot.check(left + 11, top + tile_height - 15, instance_colour(id(n)), "chip");
    }
    let [x, y, width, height] = rect(&wall["tiles"][3]["picture"]);
    let dimmed = shot.at(x + width / 2, y + height / 4);
    assert!(
        dimmed.0 == dimmed.1 && dimmed.1 == dimmed.2 && (35..60).contains(&dimmed.0),
        "dimmed grey, not {dimmed:?}"
    );
    let [left, top, ..] = rect(&wall["tiles"][1]["tile"]);
    shot.check(left - 1, top + 100, DARK.accent, "focus ring");
    let letters = |y: usize| (0..width).filter(|n| shot.at(x + n, y).0 > 150).count();
    assert!(
        (y + height / 2 - 20..y + height / 2 + 20).any(|row| letters(row) > 10),
        "no message over the dimmed picture"
    );
}

#[test]
fn nothing_is_drawn_while_nothing_changes_and_only_the_change_when_it_does() {
    let mut viewer = Viewer::start(1);
    viewer.links[0].show(Made::new(VGA, GREEN));
    viewer.all_shown();
    // Its level is on the plate.
    let level = viewer.wall_when("a level", |wall| !wall["tiles"][0]["quality"].is_null());
    let mut before = level["drawn"].as_u64().unwrap();
    // What start-up left to draw is over when two looks 200 ms apart agree.
    loop {
        std::thread::sleep(Duration::from_millis(200));
        let drawn = viewer.ask(json!({"cmd": "wall"})).unwrap()["drawn"].as_u64().unwrap();
        if drawn == before {
            break;
        }
        before = drawn;
    }
    viewer.links[0].show(Made::new(VGA, GREEN));
    std::thread::sleep(Duration::from_millis(300));
    let same = viewer.ask(json!({"cmd": "wall"})).unwrap()["drawn"].as_u64().unwrap();
    assert_eq!(same, before, "the same picture again is not drawn");
    viewer.links[0].show(Made::new(VGA, GREEN).with_box(100, 100, 50, 235));
    let wall = viewer.wall_when("one drawing", |wall| wall["drawn"].as_u64() > Some(before));
    assert_eq!(wall["drawn"].as_u64(), Some(before + 1));
    let [x, y, width, height] = rect(&wall["tiles"][0]["picture"]);
    let shot = viewer.shot();
    let inside = shot.at(x + 125 * width / 640, y + 125 * height / 480);
    assert!(inside.0 > 90 && inside.1 > 250, "the box is there, in the chroma of its ground: {inside:?}");
    shot.check(x + 90 * width / 640, y + 125 * height / 480, Rgb(0, 255, 0), "beside the box");
}

#[test]
fn a_watched_strip_is_told_whenever_it_is_drawn_and_only_then() {
    let mut viewer = Viewer::start(1);
    viewer.links[0].show(Made::new(VGA, [16, 128, 128]));
    viewer.all_shown();
    viewer.ask(json!({"cmd": "watch", "tiles": [{"id": "instance-0", "rect": [0, 0, 40, 20]}]})).unwrap();
    let luma = |line: &Value| {
        let text = line["luma"].as_str().unwrap();
        base64::engine::general_purpose::STANDARD.decode(text).unwrap()
    };
    let first = viewer.next_watched();
    assert_eq!((first["width"].as_u64(), first["height"].as_u64()), (Some(40), Some(20)));
    assert!(luma(&first).iter().all(|l| *l <= 1), "black");
    // Far from the strip: nothing is told. Then in it: the next line is of that drawing.
    viewer.links[0].show(Made::new(VGA, [16, 128, 128]).with_box(400, 300, 32, 235));
    viewer.wall_when("the far box", |wall| wall["drawn"].as_u64() > first["present"].as_u64());
    viewer.links[0].show(Made::new(VGA, [16, 128, 128]).with_box(0, 0, 64, 235));
    let second = viewer.next_watched();
    assert!(luma(&second).iter().all(|l| *l >= 250), "white");
    assert!(second["presented_at_us"].as_u64() > first["presented_at_us"].as_u64());
    assert!(second["present"].as_u64() >= first["present"].as_u64().map(|n| n + 2));
    let error = viewer.ask(json!({"cmd": "watch", "tiles": [{"id": "instance-0", "rect": [0, 0, 9999, 1]}]}));
    assert!(error.is_err_and(|why| why.contains("9999")));
}

#[test]
fn keys_reach_the_focused_session_and_are_let_go_when_it_moves() {
    let mut viewer = Viewer::start(2);
    let answer = viewer.ask(json!({"cmd": "key", "tile": "instance-1", "code": "KeyA", "pressed": true})).unwrap();
    assert!(answer["injected_at_us"].as_u64().is_some());
    let key = "KeyA".parse().unwrap();
    assert_eq!(viewer.got.recv_timeout(PATIENCE), Ok((id(1), KeysEvent::Key { key, pressed: true })));
    viewer.ask(json!({"cmd": "focus", "tile": "instance-0"})).unwrap();
    assert_eq!(viewer.got.recv_timeout(PATIENCE), Ok((id(1), KeysEvent::ReleaseAll)));
    let unknown = viewer.ask(json!({"cmd": "focus", "tile": "instance-5"}));
    assert!(unknown.is_err_and(|why| why.contains("instance-5")));
    let away = viewer.ask(json!({"cmd": "solo", "tile": "instance-5", "solo": true}));
    assert!(away.is_err_and(|why| why.contains("instance-5")), "it would silence all that are there");
}

#[test]
fn a_session_that_is_replaced_takes_along_what_was_held_in_it() {
    let mut viewer = Viewer::start(1);
    viewer.ask(json!({"cmd": "pointer", "tile": "instance-0", "motion": [1, 1]})).unwrap();
    viewer.ask(json!({"cmd": "key", "code": "KeyA", "pressed": true})).unwrap();
    let key = "KeyA".parse().unwrap();
    assert_eq!(viewer.got.recv_timeout(PATIENCE), Ok((id(0), KeysEvent::Key { key, pressed: true })));
    viewer.wall_when("capture", |wall| wall["tiles"][0]["captured"] == json!(true));
    let mut moved = instance(0, InstanceState::Live);
    moved.endpoints = moved.endpoints.map(|at| Endpoints { whep: "http://127.0.0.1:2/whep".into(), ..at });
    (viewer.post)(Event::Control(Update::One(Box::new(moved))));
    viewer.wall_when("no capture", |wall| wall["tiles"][0]["captured"] == json!(false));
    assert_eq!(viewer.got.recv_timeout(PATIENCE), Ok((id(0), KeysEvent::ReleaseAll)));
    viewer.ask(json!({"cmd": "key", "code": "KeyA", "pressed": false})).unwrap();
    assert!(viewer.got.try_recv().is_err(), "its release goes nowhere");
}

#[test]
fn another_file_at_the_sockets_path_is_neither_opened_nor_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "mine").unwrap();
    let args =
        ViewArgs { offscreen: true, automation: Some(path.clone()), ..ViewArgs::new(String::new(), PathBuf::new()) };
    let ended = run_with(args, |_, _| unreachable!("it ends before"));
    assert!(matches!(ended, Err(ViewError::Automation { .. })), "{ended:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
}

#[test]
fn pictures_of_another_size_and_instances_that_come_and_go() {
    let mut viewer = Viewer::start(1);
    viewer.links[0].show(Made::new(VGA, RED));
    viewer.all_shown();
    viewer.links[0].show(Made::new(Size::new(1024, 768), BLUE));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let wall = viewer.all_shown();
        let [x, y, width, height] = rect(&wall["tiles"][0]["picture"]);
        let shot = viewer.shot();
        if shot.at(x + width / 2, y + height / 2).2 > 250 {
            shot.check(x + width - 1, y + height - 1, Rgb(0, 0, 255), "the larger picture's last corner");
            break;
        }
        assert!(Instant::now() < deadline, "the larger picture never came");
    }
    (viewer.post)(Event::Control(Update::Removed(id(0))));
    let wall = viewer.wall_when("an empty wall", |wall| wall["tiles"].as_array().is_some_and(Vec::is_empty));
    assert_eq!(wall["size"], json!([1280, 960]));
    let shot = viewer.shot();
    shot.check(640, 300, DARK.background, "nothing is left of the picture");
}
