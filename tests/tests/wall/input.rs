//! What is done to the window arrives in one guest, and its answer is seen on the screen.

use crate::{POINTED, Stage};
use anyhow::{Context, Result, ensure};
use loco_demo_guest::barcode::Reading;
use loco_model::Key;
use loco_tests::wait::wait_for;
use loco_tests::wall::Wall;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);
/// Time in which an input that went astray would have been shown by the wrong tile.
const ASTRAY: Duration = Duration::from_millis(500);
/// In 1/1024 of the guest's picture: what rounding and scaling may do.
const NEAR: i32 = 10;
/// More than two clicks apart, so that they are not a double click.
const NOT_DOUBLE: Duration = Duration::from_millis(600);

pub(crate) async fn a_click_and_a_key_reach_one_tile_and_no_other(stage: &mut Stage) -> Result<()> {
    let wall = &stage.wall;
    for index in 0..wall.len() {
        let key: Key = format!("Digit{}", index + 1).parse()?;
        focus(wall, index).await?;
        let before = readings(wall).await?;
        wall.desktop.key(key, true)?;
        wait_for(&format!("tile {index} to show that {key:?} is held"), SOON, async || {
            let now = wall.barcode(index).await?;
            ensure!(now.input_code == u16::from(key.qnum()) && now.held == 1, "{now:?}");
            Ok(())
        })
        .await?;
        wall.desktop.key(key, false)?;
        wait_for(&format!("tile {index} to show that {key:?} was let go"), SOON, async || {
            let now = wall.barcode(index).await?;
            ensure!(now.held == 0, "{now:?}");
            Ok(())
        })
        .await?;
        tokio::time::sleep(ASTRAY).await;
        for (before, now) in before.iter().zip(readings(wall).await?) {
            let presses = now.input_count.wrapping_sub(before.input_count);
            let expected = u16::from(usize::from(now.instance) == index);
            ensure!(presses == expected, "{key:?} for tile {index}: tile {} saw {presses} presses", now.instance);
        }
    }
    wall.save_screen("keys")
}

pub(crate) async fn chords_move_the_focus_and_reach_no_guest(stage: &mut Stage) -> Result<()> {
    let wall = &stage.wall;
    focus(wall, 0).await?;
    let before = readings(wall).await?;
    for (key, expected) in [("Digit5", 4), ("ArrowRight", 5), ("ArrowDown", 8), ("ArrowLeft", 7), ("Digit1", 0)] {
        wall.desktop.chord(&keys(&["ControlLeft", "AltLeft", key])?)?;
        wait_for(&format!("Ctrl+Alt+{key} to focus tile {expected}"), SOON, async || focused(wall, expected).await)
            .await?;
    }
    tokio::time::sleep(ASTRAY).await;
    for (before, now) in before.iter().zip(readings(wall).await?) {
        // Ctrl and Alt themselves are the guest's, until the third key makes them a chord.
        let allowed = [0x1d, 0x38, before.input_code];
        ensure!(allowed.contains(&now.input_code), "tile {} saw a chord's key: {now:?}", now.instance);
        ensure!(now.held == 0, "tile {} still holds something: {now:?}", now.instance);
    }
    Ok(())
}

pub(crate) async fn the_pointer_moves_in_its_guest_only(stage: &mut Stage) -> Result<()> {
    let wall = &stage.wall;
    focus(wall, POINTED).await?;
    tokio::time::sleep(NOT_DOUBLE).await;
    let others = readings(wall).await?;
    let moved = move_captured_pointer(wall).await;
    // A relative pointer is captured, an absolute one is not.
    if wall.tiles().await?.iter().any(|tile| tile.captured) {
        wall.desktop.chord(&keys(&["ControlLeft", "AltLeft", "KeyG"])?)?;
    }
    moved?;
    for (before, now) in others.iter().zip(readings(wall).await?) {
        let index = usize::from(now.instance);
        let still = (before.cursor_x, before.cursor_y) == (now.cursor_x, now.cursor_y);
        ensure!(index == POINTED || still, "the cursor of tile {index} moved too: {now:?}");
    }
    Ok(())
}

async fn move_captured_pointer(wall: &Wall) -> Result<()> {
    // A click into the focused tile captures a relative pointer; an absolute one needs none.
    let place = wall.place(POINTED).await?;
    let (x, y) = (place.x + place.width / 2, place.y + place.height / 2);
    wall.desktop.click(x, y)?;
    tokio::time::sleep(NOT_DOUBLE).await;
    let start = resting_cursor(wall, None).await?;
    wall.save_screen("pointer-before")?;
    for (dx, dy) in [(60, 0), (0, 50), (-60, 0), (0, -50), (40, 30)] {
        // Small steps, as a hand makes them.
        for _ in 0..10 {
            wall.desktop.move_by(dx / 10, dy / 10)?;
            tokio::time::sleep(Duration::from_millis(8)).await;
        }
        wait_for(&format!("the guest's cursor to move by {dx}, {dy}"), SOON, async || {
            let now = cursor(&wall.barcode(POINTED).await?);
            let (right, down) = (now.0 - start.0, now.1 - start.1);
            let along = |moved: i32, wanted: i16| match wanted {
                0 => moved.abs() <= NEAR,
                _ => moved * i32::from(wanted.signum()) > NEAR,
            };
            ensure!(along(right, dx) && along(down, dy), "it moved by {right}, {down} of 1024");
            Ok(())
        })
        .await?;
        // Back to the middle for the next stroke.
        for _ in 0..10 {
            wall.desktop.move_by(-dx / 10, -dy / 10)?;
        }
        resting_cursor(wall, Some(start)).await?;
    }
    wall.save_screen("pointer-after")
}

fn cursor(reading: &Reading) -> (i32, i32) {
    (reading.cursor_x.into(), reading.cursor_y.into())
}

/// Where the guest's cursor stands once it stands still, near `place` when that is given.
async fn resting_cursor(wall: &Wall, place: Option<(i32, i32)>) -> Result<(i32, i32)> {
    wait_for("the guest's cursor to come to rest", SOON, async || {
        let first = cursor(&wall.barcode(POINTED).await?);
        tokio::time::sleep(Duration::from_millis(250)).await;
        let now = cursor(&wall.barcode(POINTED).await?);
        ensure!(first == now, "it moves: {first:?}, {now:?}");
        let near = |place: (i32, i32)| (now.0 - place.0).abs() <= NEAR && (now.1 - place.1).abs() <= NEAR;
        ensure!(place.is_none_or(near), "it is at {now:?}, not back at {place:?}");
        Ok(now)
    })
    .await
}

pub(crate) async fn keys_held_are_released_when_the_window_loses_the_focus(stage: &mut Stage) -> Result<()> {
    let wall = &stage.wall;
    focus(wall, POINTED).await?;
    let key: Key = "KeyZ".parse()?;
    wall.desktop.key(key, true)?;
    let held = wait_for("the key to be held in the guest", SOON, async || {
        let now = wall.barcode(POINTED).await?;
        ensure!(now.held == 1, "{now:?}");
        Ok(now)
    })
    .await?;
    let other = wall.desktop.open_window()?;
    let released = wait_for("the key to be let go in the guest", SOON, async || {
        let now = wall.barcode(POINTED).await?;
        ensure!(now.held == 0, "{now:?}");
        Ok(now)
    })
    .await;
    wall.desktop.key(key, false)?;
    wall.desktop.close_window(other)?;
    ensure!(released?.input_count == held.input_count, "a release must not be a press");
    Ok(())
}

/// Clicks on a tile's picture and waits until the keyboard goes there.
pub(crate) async fn focus(wall: &Wall, index: usize) -> Result<()> {
    tokio::time::sleep(NOT_DOUBLE).await;
    if focused(wall, index).await.is_ok() {
        // A click would capture.
        let other = (index + 1) % wall.len();
        click(wall, other).await?;
        wait_for(&format!("tile {other} to be focused"), SOON, async || focused(wall, other).await).await?;
    }
    click(wall, index).await?;
    wait_for(&format!("tile {index} to be focused"), SOON, async || focused(wall, index).await).await
}

async fn click(wall: &Wall, index: usize) -> Result<()> {
    let place = wall.place(index).await?;
    wall.desktop.click(place.x + place.width / 2, place.y + place.height / 3)
}

async fn focused(wall: &Wall, index: usize) -> Result<()> {
    let focused: Vec<_> = wall.tiles().await?.iter().filter(|t| t.focused).map(|t| t.id.index()).collect();
    ensure!(focused == [index], "focused: {focused:?}");
    Ok(())
}

fn keys(codes: &[&str]) -> Result<Vec<Key>> {
    Ok(codes.iter().map(|code| code.parse()).collect::<Result<_, _>>()?)
}

/// The barcodes of all tiles, each its own.
pub(crate) async fn readings(wall: &Wall) -> Result<Vec<Reading>> {
    wait_for("all barcodes to be readable", SOON, async || {
        let all = wall.barcodes().await?;
        all.into_iter().enumerate().map(|(index, r)| r.with_context(|| format!("no barcode on tile {index}"))).collect()
    })
    .await
}
