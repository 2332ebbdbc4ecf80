//! Where bar, tiles, pictures and plates lie. Pure: sizes and ids in, rectangles in physical pixels out.

use crate::args::Scaling;
use loco_model::{InstanceId, Rect, Size};

/// What fills the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// All instances side by side.
    #[default]
    Grid,
    /// One instance, nothing else.
    Enlarged(InstanceId),
}

/// What a layout is made from.
#[derive(Clone, Debug, PartialEq)]
pub struct LayoutInput {
    /// Inside of the window, in physical pixels.
    pub size: Size,
    /// Physical pixels per point.
    pub scale: f32,
    /// Known instances in index order, with the size of their guest's picture (640x480 while unknown).
    pub instances: Vec<(InstanceId, Size)>,
    /// Grid or one.
    pub view: View,
    /// How pictures are scaled.
    pub scaling: Scaling,
    /// Number of places asked for (1, 4 or 9); `None`: by the number of instances.
    pub places: Option<usize>,
    /// Whose page is shown when there are fewer places than instances.
    pub focus: Option<InstanceId>,
}

/// One tile's rectangles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Place in the grid, from the upper left, row by row.
    pub slot: usize,
    /// Who is there; `None`: an empty place.
    pub id: Option<InstanceId>,
    /// All of it.
    pub tile: Rect,
    /// The black part.
    pub screen: Rect,
    /// The guest's picture in it, 4:3.
    pub picture: Rect,
    /// The line under the screen.
    pub plate: Rect,
    /// The sound meter in the plate.
    pub meter: Rect,
}

/// Where everything is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Inside of the window.
    pub size: Size,
    /// The line on top; empty in the enlarged view.
    pub bar: Rect,
    /// Tiles, in slot order; in the enlarged view only one.
    pub places: Vec<Place>,
    /// Whether one instance fills the window.
    pub enlarged: bool,
}

const BAR_POINTS: f32 = 44.0;
const PLATE_POINTS: f32 = 30.0;
const GAP_POINTS: f32 = 8.0;
const METER_POINTS: (f32, f32) = (70.0, 6.0);
/// From the plate's right edge to the meter's: room for the mute button.
const METER_RIGHT_POINTS: f32 = 32.0;

/// Places of the smallest grid that holds `count`.
#[must_use]
pub fn places_for(count: usize) -> usize {
    match count {
        0 | 1 => 1,
        2..=4 => 4,
        _ => 9,
    }
}

/// The largest 4:3 rectangle in `outer` for a guest of `guest` pixels, centred, never cropped.
///
/// The shape is that of the tube, not of the pixels: 720x400 text and 1280x1024 fill 4:3 as they did on a monitor.
#[must_use]
pub fn fit(outer: Rect, guest: Size, scaling: Scaling) -> Rect {
    let natural = Size::new(guest.width, guest.width * 3 / 4);
    let multiple = match scaling {
        Scaling::Integer if guest.width > 0 && natural.height > 0 => {
            (outer.width / natural.width).min(outer.height / natural.height)
        }
        Scaling::Integer | Scaling::Sharp => 0,
    };
    let (width, height) = if multiple > 0 {
        (natural.width * multiple, natural.height * multiple)
    } else if u64::from(outer.width) * 3 <= u64::from(outer.height) * 4 {
        (outer.width, outer.width * 3 / 4)
    } else {
        (outer.height * 4 / 3, outer.height)
    };
    Rect::new(outer.x + (outer.width - width) / 2, outer.y + (outer.height - height) / 2, width, height)
}

impl Layout {
    /// Lays everything out.
    #[must_use]
    pub fn new(input: &LayoutInput) -> Self {
        let px = |points: f32| (points * input.scale).round() as u32;
        let guest_of =
            |id| input.instances.iter().find(|(i, _)| Some(*i) == id).map_or(Size::new(640, 480), |(_, size)| *size);
        if let View::Enlarged(id) = input.view
            && input.instances.iter().any(|(i, _)| *i == id)
        {
            let whole = Rect::new(0, 0, input.size.width, input.size.height);
            let plate_height = px(PLATE_POINTS).min(whole.height);
            let plate = Rect::new(0, whole.height - plate_height, whole.width, plate_height);
            let place = Place {
                slot: 0,
                id: Some(id),
                tile: whole,
                screen: whole,
                picture: fit(whole, guest_of(Some(id)), input.scaling),
                plate,
                meter: meter_in(plate, px),
            };
            return Self { size: input.size, bar: Rect::default(), places: vec![place], enlarged: true };
        }
        let count = input.places.unwrap_or_else(|| places_for(input.instances.len()));
        let columns = (1..=3).find(|n| n * n >= count).unwrap_or(3);
        let bar = Rect::new(0, 0, input.size.width, px(BAR_POINTS).min(input.size.height));
        let gap = px(GAP_POINTS);
        let ids = occupants(&input.instances, columns * columns, input.focus);
        let span = |from: u32, whole: u32, index: usize| {
            let inside = whole.saturating_sub(gap * (columns as u32 + 1));
            let (start, end) = (inside * index as u32 / columns as u32, inside * (index as u32 + 1) / columns as u32);
            (from + gap * (index as u32 + 1) + start, end - start)
        };
        let places = ids
            .into_iter()
            .enumerate()
            .map(|(slot, id)| {
                let (x, width) = span(0, input.size.width, slot % columns);
                let (y, height) = span(bar.height, input.size.height - bar.height, slot / columns);
                place(slot, id, Rect::new(x, y, width, height), guest_of(id), input, px)
            })
            .collect();
        Self { size: input.size, bar, places, enlarged: false }
    }

    /// The tile of an instance, when it is on the screen.
    #[must_use]
    pub fn place(&self, id: InstanceId) -> Option<&Place> {
        self.places.iter().find(|place| place.id == Some(id))
    }

    /// The tile at a pixel.
    #[must_use]
    pub fn at(&self, x: u32, y: u32) -> Option<&Place> {
        self.places.iter().find(|place| place.tile.contains(x, y))
    }

    /// The occupied tile next to `from`, in columns to the right and rows down; stays at the edges.
    #[must_use]
    pub fn neighbour(&self, from: InstanceId, right: i32, down: i32) -> Option<InstanceId> {
        let columns = (1..=3).find(|n| n * n >= self.places.len()).unwrap_or(1) as i32;
        let slot = self.place(from)?.slot as i32;
        let (mut column, mut row) = (slot % columns, slot / columns);
        loop {
            column += right;
            row += down;
            if !(0..columns).contains(&column) || !(0..columns).contains(&row) {
                return None;
            }
            if let Some(id) = self.places.get((row * columns + column) as usize).and_then(|place| place.id) {
                return Some(id);
            }
        }
    }
}

/// Who sits where. An instance has the place of its index wherever the grid has that place, so that a tile that comes
/// or goes moves no other; else the page of the focused one is shown.
fn occupants(instances: &[(InstanceId, Size)], places: usize, focus: Option<InstanceId>) -> Vec<Option<InstanceId>> {
    let mut slots = vec![None; places];
    if instances.iter().all(|(id, _)| id.index() < places) {
        for (id, _) in instances {
            slots[id.index()] = Some(*id);
        }
    } else {
        let rank = focus.and_then(|focus| instances.iter().position(|(id, _)| *id == focus)).unwrap_or(0);
        let page = instances.iter().skip(rank / places * places);
        for (slot, (id, _)) in slots.iter_mut().zip(page) {
            *slot = Some(*id);
        }
    }
    slots
}

fn place(
    slot: usize,
    id: Option<InstanceId>,
    tile: Rect,
    guest: Size,
    input: &LayoutInput,
    px: impl Fn(f32) -> u32,
) -> Place {
    let line = px(1.0).max(1);
    let plate_height = px(PLATE_POINTS).min(tile.height);
    let plate = Rect::new(tile.x, tile.bottom() - plate_height, tile.width, plate_height);
    // One line's width is left for the tile's outline.
    let screen = Rect::new(
        tile.x + line.min(tile.width),
        tile.y + line.min(tile.height),
        tile.width.saturating_sub(2 * line),
        tile.height.saturating_sub(plate_height + line),
    );
    Place { slot, id, tile, screen, picture: fit(screen, guest, input.scaling), plate, meter: meter_in(plate, px) }
}

fn meter_in(plate: Rect, px: impl Fn(f32) -> u32) -> Rect {
    let (width, height) = (px(METER_POINTS.0), px(METER_POINTS.1));
    let right = px(METER_RIGHT_POINTS);
    if plate.width < 2 * (width + right) || plate.height < height {
        return Rect::default();
    }
    Rect::new(plate.right() - right - width, plate.y + (plate.height - height) / 2, width, height)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> InstanceId {
        InstanceId::try_new(n).unwrap()
    }

    fn input(ids: &[usize]) -> LayoutInput {
        LayoutInput {
            size: Size::new(1280, 960),
            scale: 1.0,
            instances: ids.iter().map(|n| (id(*n), Size::new(640, 480))).collect(),
            view: View::Grid,
            scaling: Scaling::Sharp,
            places: None,
            focus: None,
        }
    }

    #[test]
    fn the_grid_follows_the_number_of_instances() {
        for (count, places) in [(0, 1), (1, 1), (2, 4), (4, 4), (5, 9), (9, 9)] {
            let ids: Vec<_> = (0..count).collect();
            assert_eq!(Layout::new(&input(&ids)).places.len(), places, "{count} instances");
        }
    }

    #[test]
    fn nothing_overlaps_and_nothing_is_cropped() {
        for (scale, size) in [
            (1.0, Size::new(1280, 960)),
            (2.0, Size::new(2560, 1440)),
            (1.25, Size::new(333, 320)),
            (3.0, Size::new(320, 320)),
        ] {
            for count in [1, 3, 9] {
                let ids: Vec<_> = (0..count).collect();
                let layout = Layout::new(&LayoutInput { size, scale, ..input(&ids) });
                let whole = Rect::new(0, 0, size.width, size.height);
                for (n, place) in layout.places.iter().enumerate() {
                    for inner in [place.tile, place.screen, place.picture, place.plate, place.meter] {
                        assert_eq!(inner.intersection(whole), if inner.is_empty() { Rect::default() } else { inner });
                    }
                    assert!(place.picture.is_empty() || place.picture.intersection(place.screen) == place.picture);
                    assert!(place.screen.intersection(place.plate).is_empty());
                    assert!(place.tile.intersection(layout.bar).is_empty());
                    for other in &layout.places[n + 1..] {
                        assert!(place.tile.intersection(other.tile).is_empty());
                    }
                }
            }
        }
    }

    #[test]
    fn pictures_are_four_to_three_whatever_the_guest_shows() {
        let outer = Rect::new(10, 20, 416, 264);
        for guest in [Size::new(640, 480), Size::new(1024, 768), Size::new(720, 400), Size::new(1280, 1024)] {
            assert_eq!(fit(outer, guest, Scaling::Sharp), Rect::new(42, 20, 352, 264), "{guest:?}");
        }
        assert_eq!(fit(Rect::new(0, 0, 100, 400), Size::new(640, 480), Scaling::Sharp), Rect::new(0, 162, 100, 75));
    }

    #[test]
    fn integer_scaling_takes_whole_multiples_or_gives_way() {
        let guest = Size::new(640, 480);
        assert_eq!(fit(Rect::new(0, 0, 1400, 1000), guest, Scaling::Integer), Rect::new(60, 20, 1280, 960));
        assert_eq!(fit(Rect::new(0, 0, 352, 264), guest, Scaling::Integer), Rect::new(0, 0, 352, 264));
    }

    #[test]
    fn a_tile_that_goes_moves_no_other() {
        let (nine, eight) =
            (Layout::new(&input(&[0, 1, 2, 3, 4, 5, 6, 7, 8])), Layout::new(&input(&[0, 1, 3, 4, 5, 6, 7, 8])));
        assert_eq!(nine.place(id(8)), eight.place(id(8)));
        assert_eq!(eight.places[2].id, None);
        // Two instances with high numbers still share a 2x2.
        let two = Layout::new(&input(&[5, 8]));
        assert_eq!(two.places.iter().map(|p| p.id).collect::<Vec<_>>(), [Some(id(5)), Some(id(8)), None, None]);
    }

    #[test]
    fn fewer_places_show_the_page_of_the_focus() {
        let all: Vec<_> = (0..9).collect();
        let layout = Layout::new(&LayoutInput { places: Some(4), focus: Some(id(6)), ..input(&all) });
        assert_eq!(layout.places.iter().map(|p| p.id).collect::<Vec<_>>(), [4, 5, 6, 7].map(|n| Some(id(n))));
        let one = Layout::new(&LayoutInput { places: Some(1), focus: Some(id(6)), ..input(&all) });
        assert_eq!(one.places[0].id, Some(id(6)));
    }

    #[test]
    fn enlarged_is_the_picture_and_nothing_else() {
        let layout = Layout::new(&LayoutInput { view: View::Enlarged(id(1)), ..input(&[0, 1]) });
        assert!(layout.enlarged && layout.bar.is_empty());
        assert_eq!(layout.places.len(), 1);
        assert_eq!(layout.places[0].picture, Rect::new(0, 0, 1280, 960));
        let gone = Layout::new(&LayoutInput { view: View::Enlarged(id(7)), ..input(&[0, 1]) });
        assert!(!gone.enlarged, "an instance that is not there cannot fill the window");
    }

    #[test]
    fn neighbours_skip_holes_and_stop_at_edges() {
        let layout = Layout::new(&input(&[0, 2, 3, 4, 5, 6, 7, 8]));
        for (from, right, down, to) in [
            (0, 1, 0, Some(2)),
            (2, -1, 0, Some(0)),
            (0, -1, 0, None),
            (4, 0, 1, Some(7)),
            (4, 0, -1, None),
            (8, 1, 0, None),
        ] {
            assert_eq!(layout.neighbour(id(from), right, down), to.map(id), "{from} {right} {down}");
        }
    }

    #[test]
    fn hits() {
        let layout = Layout::new(&input(&[0, 1, 2, 3, 4, 5, 6, 7, 8]));
        let middle = layout.places[4].picture;
        assert_eq!(layout.at(middle.x, middle.y).and_then(|p| p.id), Some(id(4)));
        assert_eq!(layout.at(0, 0), None);
    }
}
