//! The controller in a world of virtual time: no socket, no clock, the same result every time.

mod link;
mod shapes;
mod stream;
mod tcp;

use link::{Link, LinkConfig, Parcel, Who};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use stream::{Content, Feedback, Stream};
use tcp::Tcp;

/// The guest's display refreshes this often.
const TICK_US: u64 = 33_333;
const PING_US: u64 = 50_000;

/// xorshift64*: the same numbers on every machine.
struct Rng(u64);

impl Rng {
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }
}

enum Event {
    Tick(usize),
    Retry(usize),
    Served,
    Arrive(Parcel),
    Report(usize),
    Heard(usize, Feedback, u64),
    Asked(usize, Vec<u64>),
    Key(usize),
    Acknowledged(usize, u64),
    Ping,
}

struct World {
    now_us: u64,
    order: u64,
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    rng: Rng,
    link: Link,
    streams: Vec<Stream>,
    /// Where each receiver's last report ended.
    report_ends: Vec<u64>,
    retry_at: Vec<u64>,
    downloads: Vec<Tcp>,
    /// When asked, and the answer in ms.
    pings: Vec<(u64, f64)>,
}

impl World {
    fn new(link: LinkConfig, streams: Vec<Stream>, downloads: Vec<Tcp>) -> Self {
        let mut world = Self {
            now_us: 0,
            order: 0,
            heap: BinaryHeap::new(),
            events: BTreeMap::new(),
            rng: Rng(0x9e37_79b9_7f4a_7c15),
            link: Link::new(link),
            report_ends: vec![0; streams.len()],
            retry_at: vec![0; streams.len()],
            streams,
            downloads,
            pings: Vec::new(),
        };
        for i in 0..world.streams.len() {
            // Guests do not refresh in step.
            world.at(TICK_US * i as u64 / 9 + 1, Event::Tick(i));
        }
        world.at(0, Event::Ping);
        world
    }

    fn at(&mut self, at_us: u64, event: Event) {
        self.order += 1;
        self.heap.push(Reverse((at_us, self.order)));
        self.events.insert(self.order, event);
    }

    fn put(&mut self, parcel: Parcel) {
        if let Some(at) = self.link.offer(self.now_us, parcel, &mut self.rng) {
            self.at(at, Event::Served);
        }
    }

    fn run(&mut self, until_ms: u64) {
        while let Some(Reverse((at, order))) = self.heap.peek().copied() {
            if at > until_ms * 1_000 {
                break;
            }
            self.heap.pop();
            self.now_us = at;
            if let Some(event) = self.events.remove(&order) {
                self.happen(event);
            }
        }
        self.now_us = until_ms * 1_000;
    }

    fn happen(&mut self, event: Event) {
        let now = self.now_us;
        match event {
            Event::Tick(i) => {
                self.streams[i].tick(now);
                self.try_frame(i);
                let round_trip = self.link.config.delay_ms * 2_200 + 20_000;
                let again = self.streams[i].ask_again(now, round_trip);
                self.ask(i, again);
                if self.streams[i].needs_key(now) {
                    let back = self.link.back_us(&mut self.rng);
                    self.at(now + back, Event::Key(i));
                }
                self.at(now + TICK_US, Event::Tick(i));
            }
            Event::Retry(i) => self.try_frame(i),
            Event::Served => {
                if let Some((parcel, arrives, next)) = self.link.done(now, &mut self.rng) {
                    self.at(arrives, Event::Arrive(parcel));
                    if let Some(at) = next {
                        self.at(at, Event::Served);
                    }
                }
            }
            Event::Arrive(parcel) => self.arrive(parcel),
            Event::Report(i) => {
                let feedback = self.streams[i].feedback(now);
                let known_from = feedback.known_from(self.report_ends[i]);
                self.report_ends[i] = feedback.end().max(self.report_ends[i]);
                if !self.link.loses(now, &mut self.rng) {
                    let back = self.link.back_us(&mut self.rng);
                    self.at(now + back, Event::Heard(i, feedback, known_from));
                }
            }
            Event::Heard(i, feedback, known_from) => {
                self.streams[i].heard(now, &feedback, known_from);
                self.try_frame(i);
            }
            Event::Asked(i, numbers) => {
                for rtp in numbers {
                    if let Some(parcel) = self.streams[i].resend(now, rtp) {
                        self.put(parcel);
                    }
                }
            }
            Event::Key(i) => {
                self.streams[i].want_key();
                self.try_frame(i);
            }
            Event::Acknowledged(i, number) => {
                self.downloads[i].acknowledged(now, number);
                self.pump(i);
            }
            Event::Ping => {
                self.put(Parcel { who: Who::Ping(now), bytes: 60 });
                for i in 0..self.downloads.len() {
                    self.downloads[i].timeout(now);
                    self.pump(i);
                }
                self.at(now + PING_US, Event::Ping);
            }
        }
    }

    fn pump(&mut self, i: usize) {
        while let Some(number) = self.downloads[i].send(self.now_us) {
            self.put(Parcel { who: Who::Tcp(i, number), bytes: tcp::SEGMENT });
        }
    }

    fn arrive(&mut self, parcel: Parcel) {
        let now = self.now_us;
        let back = self.link.back_us(&mut self.rng);
        match parcel.who {
            Who::Media(i, tag) => {
                let ask = self.streams[i].arrive(now, tag);
                self.ask(i, ask);
                if let Some(due) = self.streams[i].report_due {
                    // Asked for more than once is harmless: an empty report says nothing.
                    self.at(due, Event::Report(i));
                }
            }
            Who::Tcp(i, number) => self.at(now + back, Event::Acknowledged(i, number)),
            Who::Ping(sent) => self.pings.push((sent, (now + back - sent) as f64 / 1e3)),
        }
    }

    fn ask(&mut self, i: usize, numbers: Vec<u64>) {
        if !numbers.is_empty() && !self.link.loses(self.now_us, &mut self.rng) {
            let back = self.link.back_us(&mut self.rng);
            self.at(self.now_us + back, Event::Asked(i, numbers));
        }
    }

    fn try_frame(&mut self, i: usize) {
        match self.streams[i].try_frame(self.now_us, &mut self.rng) {
            Ok(parcels) => parcels.into_iter().for_each(|parcel| self.put(parcel)),
            Err(Some(at)) if self.retry_at[i] != at => {
                self.retry_at[i] = at;
                self.at(at.max(self.now_us + 1), Event::Retry(i));
            }
            Err(_) => {}
        }
    }

    // --- figures, times in ms

    /// Pictures a second shown by a stream.
    fn fps(&self, stream: usize, from: u64, to: u64) -> f64 {
        let shown =
            self.streams[stream].pictures_us.iter().filter(|at| (from * 1_000..to * 1_000).contains(*at)).count();
        shown as f64 * 1e3 / (to - from) as f64
    }

    /// Longest time between two pictures.
    fn longest_gap(&self, stream: usize, from: u64, to: u64) -> f64 {
        let within = self.streams[stream].pictures_us.iter().filter(|at| (from * 1_000..to * 1_000).contains(*at));
        let mut last = from * 1_000;
        let mut longest = 0;
        for at in within.copied().chain([to * 1_000]) {
            longest = longest.max(at - last);
            last = at;
        }
        longest as f64 / 1e3
    }

    /// Bits a second that a stream's receiver got.
    fn rate(&self, stream: usize, from: u64, to: u64) -> f64 {
        let within = self.streams[stream].received.iter().filter(|(at, _)| (from * 1_000..to * 1_000).contains(at));
        within.map(|(_, bytes)| f64::from(*bytes)).sum::<f64>() * 8e3 / (to - from) as f64
    }

    /// Longest round trip.
    fn worst_ping(&self, from: u64, to: u64) -> f64 {
        self.pings
            .iter()
            .filter(|(at, _)| (from * 1_000..to * 1_000).contains(at))
            .map(|(_, ms)| *ms)
            .fold(0.0, f64::max)
    }

    /// How long after `from` a stream again received at `rate` over 300 ms.
    fn back_after(&self, stream: usize, from: u64, rate: f64) -> Option<u64> {
        (0..20_000).step_by(50).find(|ms| self.rate(stream, from + ms, from + ms + 300) >= rate).map(|ms| ms + 300)
    }

    fn target(&self, stream: usize, at_ms: u64) -> f64 {
        let targets = &self.streams[stream].targets;
        targets.iter().rev().find(|(at, ..)| *at <= at_ms * 1_000).map_or(0.0, |(_, target, _)| f64::from(*target))
    }

    /// A line for each half second, to look at.
    fn story(&self, stream: usize, to: u64) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        for ms in (0..to).step_by(500) {
            let queue =
                self.streams[stream].targets.iter().filter(|(at, ..)| (ms * 1_000..(ms + 500) * 1_000).contains(at));
            let queue = queue.map(|(_, _, queue)| queue / 1_000).max().unwrap_or(0);
            let _ = writeln!(
                text,
                "{:5.1} s link {:5.0} target {:5.0} got {:5.0} kbit/s fps {:4.1} gap {:4.0} queue {:4} ping {:4.0} ms",
                ms as f64 / 1e3,
                self.link.rate(ms * 1_000) / 1e3,
                self.target(stream, ms + 499) / 1e3,
                self.rate(stream, ms, ms + 500) / 1e3,
                self.fps(stream, ms, ms + 500),
                self.longest_gap(stream, ms, ms + 500),
                queue,
                self.worst_ping(ms, ms + 500),
            );
        }
        text
    }
}
