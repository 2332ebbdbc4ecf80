//! One GStreamer element, driven by hand: a buffer pushed into it comes out of it within the same call, on the caller's
//! thread. No queue, no streaming thread and no second clock lie between, so nothing waits and nothing is switched to.

use crate::error::MediaError;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video as gst_video;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// An element between two pads of ours.
pub(super) struct Element {
    name: &'static str,
    element: gst::Element,
    input: gst::Pad,
    output: gst::Pad,
    bus: gst::Bus,
    state: Arc<Mutex<Output>>,
}

#[derive(Default)]
struct Output {
    buffers: VecDeque<gst::Buffer>,
    caps: Option<gst::Caps>,
}

/// Starts GStreamer once in the process.
pub(super) fn init() -> Result<(), MediaError> {
    gst::init().map_err(|e| MediaError::GStreamer(e.to_string()))
}

/// Whether an element of that name is installed.
pub(super) fn is_installed(name: &str) -> bool {
    gst::ElementFactory::find(name).is_some()
}

impl Element {
    /// Makes `name`, gives it `properties` (GStreamer's notation), feeds it `input` caps and takes `output` caps from it.
    pub(super) fn new(
        name: &'static str,
        properties: &[(&str, &str)],
        input: &gst::Caps,
        output: &gst::Caps,
    ) -> Result<Self, MediaError> {
        init()?;
        let failed = |reason: String| MediaError::Codec { element: name, reason };
        let element = gst::ElementFactory::make(name).build().map_err(|e| failed(e.to_string()))?;
        for (property, value) in properties {
            if element.find_property(property).is_some() {
                element.set_property_from_str(property, value);
            } else {
                tracing::debug!(element = name, property, "no such property in this version");
            }
        }
        let bus = gst::Bus::new();
        // Nobody reads what else elements tell (states, dropped frames), and a bus keeps all that it is given.
        bus.set_sync_handler(|_, message| match message.view() {
            gst::MessageView::Error(_) => gst::BusSyncReply::Pass,
            _ => gst::BusSyncReply::Drop,
        });
        element.set_bus(Some(&bus));
        let state = Arc::new(Mutex::new(Output::default()));
        let (input_pad, output_pad) = (source_pad(input), sink_pad(output, &state).map_err(failed)?);
        let link = |from: &gst::Pad, to: Option<gst::Pad>| {
            let to = to.ok_or_else(|| failed("it has no static pad".to_owned()))?;
            from.link(&to).map_err(|e| failed(format!("its pads do not link: {e:?}")))
        };
        link(&input_pad, element.static_pad("sink"))?;
        let element_output = element.static_pad("src").ok_or_else(|| failed("it has no static pad".to_owned()))?;
        link(&element_output, Some(output_pad.clone()))?;
        for pad in [&output_pad, &input_pad] {
            pad.set_active(true).map_err(|e| failed(e.to_string()))?;
        }
        element.set_state(gst::State::Playing).map_err(|_| failed("it does not start".to_owned()))?;
        let this = Self { name, element, input: input_pad, output: output_pad, bus, state };
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        let events =
            [gst::event::StreamStart::new("loco"), gst::event::Caps::new(input), gst::event::Segment::new(&segment)];
        for event in events {
            if !this.input.push_event(event) {
                return Err(this.fault("it refuses the format"));
            }
        }
        Ok(this)
    }

    /// Pushes one buffer in; what came out meanwhile is then there for [`Element::pull`].
    pub(super) fn push(&self, buffer: gst::Buffer) -> Result<(), MediaError> {
        self.input.push(buffer).map(|_| ()).map_err(|flow| self.fault(&format!("{flow:?}")))
    }

    /// The next buffer that came out.
    pub(super) fn pull(&self) -> Option<gst::Buffer> {
        self.state.lock().buffers.pop_front()
    }

    /// The format of what came out.
    pub(super) fn output_caps(&self) -> Option<gst::Caps> {
        self.state.lock().caps.clone()
    }

    /// Sends an event downstream, into the element.
    pub(super) fn send(&self, event: gst::Event) -> bool {
        self.input.push_event(event)
    }

    /// Changes a property while it runs.
    pub(super) fn set(&self, property: &str, value: u32) {
        if let Some(spec) = self.element.find_property(property) {
            // vp8enc's rate is signed, the others' are not.
            if spec.value_type() == i32::static_type() {
                self.element.set_property(property, i32::try_from(value).unwrap_or(i32::MAX));
            } else {
                self.element.set_property(property, value);
            }
        }
    }

    /// The element's own words for what went wrong, or ours.
    fn fault(&self, otherwise: &str) -> MediaError {
        let told =
            std::iter::from_fn(|| self.bus.pop_filtered(&[gst::MessageType::Error])).find_map(|message| match message
                .view()
            {
                gst::MessageView::Error(error) => Some(error.error().to_string()),
                _ => None,
            });
        MediaError::Codec { element: self.name, reason: told.unwrap_or_else(|| otherwise.to_owned()) }
    }
}

impl Drop for Element {
    fn drop(&mut self) {
        // Nothing can be done about an element that does not stop; its memory goes with its last reference.
        let _ = self.element.set_state(gst::State::Null);
        let _ = self.input.set_active(false);
        let _ = self.output.set_active(false);
    }
}

/// The pad that feeds the element; it tells the element that nothing is live here, so that nothing is timed.
fn source_pad(caps: &gst::Caps) -> gst::Pad {
    let caps = caps.clone();
    gst::Pad::builder(gst::PadDirection::Src)
        .name("loco-in")
        .query_function(move |pad, parent, query| match query.view_mut() {
            gst::QueryViewMut::Latency(latency) => {
                latency.set(false, gst::ClockTime::ZERO, gst::ClockTime::NONE);
                true
            }
            gst::QueryViewMut::Caps(asked) => {
                let answer = asked.filter().map_or_else(|| caps.clone(), |filter| filter.intersect(&caps));
                asked.set_result(&answer);
                true
            }
            _ => gst::Pad::query_default(pad, parent, query),
        })
        .build()
}

/// The pad that takes what the element makes. It understands video metas, so that decoders hand out their own padded
/// pictures instead of copies.
fn sink_pad(caps: &gst::Caps, state: &Arc<Mutex<Output>>) -> Result<gst::Pad, String> {
    let template = gst::PadTemplate::new("loco-out", gst::PadDirection::Sink, gst::PadPresence::Always, caps)
        .map_err(|e| e.to_string())?;
    let (buffers, events) = (Arc::clone(state), Arc::clone(state));
    Ok(gst::Pad::builder_from_template(&template)
        .chain_function(move |_, _, buffer| {
            buffers.lock().buffers.push_back(buffer);
            Ok(gst::FlowSuccess::Ok)
        })
        .event_function(move |pad, parent, event| {
            if let gst::EventView::Caps(caps) = event.view() {
                events.lock().caps = Some(caps.caps_owned());
            }
            gst::Pad::event_default(pad, parent, event)
        })
        .query_function(|pad, parent, query| {
            if let gst::QueryViewMut::Allocation(allocation) = query.view_mut() {
                allocation.add_allocation_meta::<gst_video::VideoMeta>(None);
                return true;
            }
            gst::Pad::query_default(pad, parent, query)
        })
        .build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_reads_is_not_kept() {
        init().expect("GStreamer");
        let caps = gst::Caps::new_empty_simple("application/x-test");
        let element = Element::new("identity", &[("error-after", "3")], &caps, &caps).expect("an element of the core");
        assert!(element.bus.peek().is_none(), "it told of its states");
        assert!(element.push(gst::Buffer::new()).is_ok() && element.pull().is_some());
        let failed = (0..3).find_map(|_| element.push(gst::Buffer::new()).err()).expect("a failure is told");
        assert!(failed.to_string().contains("identity"), "{failed}");
        assert!(element.bus.peek().is_none(), "and read");
    }
}
