use super::*;
use crate::args::Scaling;
use crate::scene::layout::{LayoutInput, View};
use loco_model::Size;

fn id(n: usize) -> InstanceId {
    InstanceId::try_new(n).unwrap()
}

fn key(code: &str) -> Key {
    code.parse().unwrap()
}

fn wall() -> Layout {
    Layout::new(&LayoutInput {
        size: Size::new(1280, 960),
        scale: 1.0,
        instances: InstanceId::all().map(|id| (id, Size::new(640, 480))).collect(),
        view: View::Grid,
        scaling: Scaling::Sharp,
        places: None,
        focus: None,
    })
}

/// A router, a wall and a clock.
struct Bench {
    router: Router,
    layout: Layout,
    now: Duration,
}

impl Bench {
    fn new() -> Self {
        Self { router: Router::default(), layout: wall(), now: Duration::from_secs(1) }
    }

    fn focused(n: usize) -> Self {
        let mut bench = Self::new();
        bench.router.set_focus(Some(id(n)), &mut Vec::new());
        bench
    }

    fn captured(n: usize) -> Self {
        let mut bench = Self::focused(n);
        bench.router.set_captured(true, &mut Vec::new());
        bench
    }

    fn give(&mut self, input: Input) -> Vec<Action> {
        let mut out = Vec::new();
        let around = Surroundings { layout: &self.layout, pointer_taken: false, keyboard_taken: false };
        self.router.input(input, self.now, around, &mut out);
        out
    }

    fn press(&mut self, code: &str) -> Vec<Action> {
        self.give(Input::Key(key(code), true))
    }

    fn release(&mut self, code: &str) -> Vec<Action> {
        self.give(Input::Key(key(code), false))
    }

    fn point_at(&mut self, n: usize) -> Vec<Action> {
        let picture = self.layout.place(id(n)).unwrap().picture;
        self.give(Input::Moved(f64::from(picture.x + picture.width / 2), f64::from(picture.y + picture.height / 2)))
    }

    fn click(&mut self, n: usize) -> Vec<Action> {
        self.point_at(n);
        let mut out = self.give(Input::Button(Button::Left, true));
        out.extend(self.give(Input::Button(Button::Left, false)));
        out
    }
}

fn down(n: usize, code: &str) -> Action {
    Action::Keys(id(n), KeysEvent::Key { key: key(code), pressed: true })
}

fn up(n: usize, code: &str) -> Action {
    Action::Keys(id(n), KeysEvent::Key { key: key(code), pressed: false })
}

fn let_go(n: usize) -> Action {
    Action::Keys(id(n), KeysEvent::ReleaseAll)
}

#[test]
fn keys_go_to_the_focus_and_nowhere_else() {
    assert_eq!(Bench::new().press("KeyA"), [], "no focus, no guest");
    let mut bench = Bench::focused(3);
    assert_eq!(bench.press("KeyA"), [down(3, "KeyA")]);
    assert_eq!(bench.press("KeyA"), [], "a repeat is no press");
    assert_eq!(bench.release("KeyA"), [up(3, "KeyA")]);
    assert_eq!(bench.release("KeyA"), []);
    for code in ["Escape", "Tab", "MetaLeft", "F1", "F12"] {
        assert_eq!(bench.press(code), [down(3, code)]);
    }
}

#[test]
fn nothing_stays_held_when_the_focus_goes() {
    let mut bench = Bench::focused(0);
    bench.press("ShiftLeft");
    assert_eq!(bench.click(1), [let_go(0), Action::Focused(id(1))]);
    assert_eq!(bench.release("ShiftLeft"), [], "the old guest let go already, the new one never saw it");
    assert_eq!(bench.press("KeyB"), [down(1, "KeyB")]);
}

#[test]
fn everything_is_let_go_on_every_loss() {
    #[expect(clippy::type_complexity, reason = "a table of what is done and what must follow")]
    let lose: [(&str, fn(&mut Bench) -> Vec<Action>); 5] = [
        ("the window's focus", |b| b.give(Input::FocusLost)),
        ("the session", |b| {
            let mut out = Vec::new();
            b.router.session_changed(id(2), false, &mut out);
            out
        }),
        ("the capture", |b| {
            let mut out = Vec::new();
            b.router.set_captured(false, &mut out);
            out
        }),
        ("the instance", |b| {
            let mut out = Vec::new();
            b.router.removed(id(2), &mut out);
            out
        }),
        ("the mode", |b| {
            let mut out = Vec::new();
            b.router.set_pointer_mode(id(2), PointerMode::Absolute, &mut out);
            out
        }),
    ];
    for (what, lose) in lose {
        let mut bench = Bench::captured(2);
        bench.press("KeyW");
        bench.give(Input::Button(Button::Right, true));
        let out = lose(&mut bench);
        assert_eq!(out.iter().filter(|a| **a == let_go(2)).count(), 1, "{what}: {out:?}");
        assert!(out.contains(&Action::Captured(false)), "{what}: {out:?}");
        let late = [bench.release("KeyW"), bench.give(Input::Button(Button::Right, false))].concat();
        assert_eq!(late, [], "{what}: a late release goes nowhere");
    }
}

#[test]
fn chords_move_the_focus_and_leave_no_modifier_behind() {
    let mut bench = Bench::focused(4);
    bench.press("ControlLeft");
    bench.press("AltLeft");
    assert_eq!(bench.press("ArrowRight"), [let_go(4), Action::Focused(id(5))]);
    assert_eq!(bench.release("ArrowRight"), []);
    assert_eq!(bench.press("ArrowRight"), [], "the right edge");
    assert_eq!(bench.press("Digit1"), [Action::Focused(id(0))]);
    assert_eq!([bench.release("AltLeft"), bench.release("ControlLeft")].concat(), []);
    assert_eq!(bench.press("KeyX"), [down(0, "KeyX")]);
}

#[test]
fn ctrl_alt_delete_reaches_the_guest() {
    let mut bench = Bench::captured(0);
    let out = [bench.press("ControlLeft"), bench.press("AltLeft"), bench.press("Delete")].concat();
    assert_eq!(out, [down(0, "ControlLeft"), down(0, "AltLeft"), down(0, "Delete")]);
}

#[test]
fn first_click_focuses_second_captures_and_the_chord_releases() {
    let mut bench = Bench::new();
    assert_eq!(bench.click(4), [Action::Focused(id(4))]);
    bench.now += Duration::from_secs(1);
    assert_eq!(bench.click(4), [Action::Captured(true)], "the click itself is not the guest's");
    bench.now += Duration::from_secs(1);
    let pointer = Pointer::Relative { sum_x: 0, sum_y: 0 };
    let button = |pressed| Action::Keys(id(4), KeysEvent::Button { button: Button::Left, pressed, pointer });
    assert_eq!(bench.click(8), [button(true), button(false)], "captured: wherever the pointer is said to be");
    bench.press("ControlLeft");
    bench.press("AltLeft");
    assert_eq!(bench.press("KeyG"), [let_go(4), Action::Captured(false)]);
    assert!(!bench.router.captured());
    assert_eq!(bench.router.focus(), Some(id(4)), "the focus stays");
}

#[test]
fn double_click_enlarges() {
    let mut bench = Bench::new();
    bench.click(4);
    bench.now += Duration::from_millis(200);
    assert_eq!(bench.click(4), [Action::Do(Command::Enlarge(id(4)))]);
    let mut slow = Bench::new();
    slow.click(4);
    slow.now += Duration::from_millis(401);
    assert_eq!(slow.click(4), [Action::Captured(true)]);
    slow.now += Duration::from_millis(100);
    assert_eq!(slow.click(4), [Action::Do(Command::Enlarge(id(4)))], "the capturing click counts as the first");
    let mut two = Bench::new();
    two.click(4);
    assert_eq!(two.click(5), [Action::Focused(id(5))], "two tiles, no double click");
    let mut f11 = Bench::focused(7);
    assert_eq!(f11.press("F11"), [Action::Do(Command::Enlarge(id(7)))]);
}

#[test]
fn relative_motion_is_summed_and_fractions_are_kept() {
    let mut bench = Bench::captured(1);
    let sum = |x, y| Action::Pointer(id(1), Pointer::Relative { sum_x: x, sum_y: y });
    assert_eq!(bench.give(Input::Motion(3.0, -2.0)), [sum(3, -2)]);
    assert_eq!(bench.give(Input::Motion(0.5, 0.25)), []);
    assert_eq!(bench.give(Input::Motion(0.5, 0.25)), [sum(4, -2)]);
    assert_eq!(bench.point_at(1), [], "places mean nothing to a relative pointer");
    bench.router.session_changed(id(1), true, &mut Vec::new());
    assert_eq!(bench.give(Input::Motion(1.0, 1.0)), [sum(1, 1)], "a new session counts from zero");
    assert_eq!(Bench::focused(1).give(Input::Motion(9.0, 9.0)), [], "not captured");
}

#[test]
fn absolute_places_span_the_picture() {
    let mut bench = Bench::focused(0);
    bench.router.set_pointer_mode(id(0), PointerMode::Absolute, &mut Vec::new());
    let picture = bench.layout.place(id(0)).unwrap().picture;
    let (left, top) = (f64::from(picture.x), f64::from(picture.y));
    let (right, bottom) = (f64::from(picture.right() - 1), f64::from(picture.bottom() - 1));
    let at = |x, y| Action::Pointer(id(0), Pointer::Absolute { x, y });
    assert_eq!(bench.give(Input::Moved(right, bottom)), [at(65535, 65535)]);
    assert_eq!(bench.give(Input::Moved(left, top)), [at(0, 0)]);
    assert_eq!(bench.give(Input::Moved(left - 5.0, top)), [], "outside");
    assert_eq!(bench.give(Input::Moved(-3.0, -3.0)), []);
    bench.give(Input::Moved(left, top));
    let pointer = Pointer::Absolute { x: 0, y: 0 };
    let press = Action::Keys(id(0), KeysEvent::Button { button: Button::Left, pressed: true, pointer });
    assert_eq!(bench.give(Input::Button(Button::Left, true)), [press]);
    assert_eq!(bench.give(Input::Moved(right + 50.0, top)), [at(65535, 0)], "a drag goes along the edge");
    assert_eq!(bench.give(Input::Button(Button::Left, false)).len(), 1);
}

#[test]
fn the_wheel_goes_where_the_focus_is() {
    let mut bench = Bench::focused(2);
    bench.point_at(2);
    assert_eq!(bench.give(Input::Wheel(0.0, 1.0)), [Action::Keys(id(2), KeysEvent::Wheel { x: 0, y: 1 })]);
    assert_eq!(bench.give(Input::Wheel(0.0, 0.4)), []);
    assert_eq!(bench.give(Input::Wheel(0.0, 0.6)), [Action::Keys(id(2), KeysEvent::Wheel { x: 0, y: 1 })]);
    bench.point_at(3);
    assert_eq!(bench.give(Input::Wheel(0.0, 1.0)), [], "over another tile");
}

#[test]
fn what_the_viewer_itself_takes_reaches_no_guest() {
    let mut bench = Bench::focused(2);
    bench.point_at(2);
    let around = Surroundings { layout: &bench.layout, pointer_taken: true, keyboard_taken: true };
    let mut out = Vec::new();
    for input in [Input::Button(Button::Left, true), Input::Key(key("KeyA"), true), Input::Wheel(0.0, 2.0)] {
        bench.router.input(input, bench.now, around, &mut out);
    }
    assert_eq!(out, []);
}

#[test]
fn a_right_click_that_is_not_the_guests_opens_the_menu() {
    let menu = |n| Action::Do(Command::Menu(id(n), true));
    let right = |bench: &mut Bench, n| {
        bench.point_at(n);
        bench.give(Input::Button(Button::Right, true))
    };
    assert_eq!(right(&mut Bench::new(), 4), [menu(4)], "nothing is focused");
    assert_eq!(right(&mut Bench::focused(0), 4), [menu(4)], "another one's");
    assert_eq!(right(&mut Bench::focused(4), 4), [menu(4)], "its pointer is not captured");
    let pressed = |actions: &[Action]| matches!(actions, [Action::Keys(_, KeysEvent::Button { pressed: true, .. })]);
    assert!(pressed(&right(&mut Bench::captured(4), 4)), "it is the guest's");
    let mut tablet = Bench::focused(4);
    tablet.router.set_pointer_mode(id(4), PointerMode::Absolute, &mut Vec::new());
    assert!(pressed(&right(&mut tablet, 4)), "it is the guest's");
    // By the keyboard too; a captured pointer is freed for it.
    let mut captured = Bench::captured(2);
    captured.press("ControlLeft");
    captured.press("AltLeft");
    let actions = captured.press("KeyO");
    assert_eq!(actions.last(), Some(&Action::Do(Command::Menu(id(2), false))));
    assert!(actions.contains(&Action::Captured(false)));
    let mut focused = Bench::focused(2);
    focused.press("ControlLeft");
    focused.press("AltLeft");
    assert_eq!(focused.press("KeyT").last(), Some(&Action::Do(Command::Take(id(2)))));
}
