//! What goes over a connected session's channels, each way a task of its own.

use super::copies::{KeyCopies, PositionCopies};
use super::link::{Sound, sleep_until};
use super::mailbox::Mailbox;
use crate::sound_link::ReceivedPacket;
use crate::transport::{Channel, RtpIn};
use bytes::BytesMut;
use loco_model::input::{KeysEvent, KeysMessage};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Between two pointer messages: well below a frame. The first after a rest goes at once, what comes meanwhile replaces
/// itself: a mouse of 1 kHz need not be a thousand packets a second.
const POINTER_AGAIN: Duration = Duration::from_millis(4);

/// Sends a time whenever asked; the other end sends it back. Tells `opened` when it can.
pub(super) async fn ask_for_echoes(
    channel: Channel,
    opened: oneshot::Sender<()>,
    mut asks: mpsc::Receiver<()>,
    mailbox: Arc<Mailbox>,
) {
    if !channel.opened().await {
        return;
    }
    // Whoever asked may have seen it by the media already.
    let _ = opened.send(());
    let began = Instant::now();
    loop {
        tokio::select! {
            asked = asks.recv() => {
                let time = (began.elapsed().as_micros() as u64).to_be_bytes();
                if asked.is_none() || !channel.send(BytesMut::from(&time[..])).await {
                    return;
                }
            }
            echo = channel.next() => {
                let Some(echo) = echo else { return };
                let Ok(time) = <[u8; 8]>::try_from(&echo[..]) else { continue };
                let asked = Duration::from_micros(u64::from_be_bytes(time));
                if let Some(round_trip) = began.elapsed().checked_sub(asked) {
                    let mut meter = mailbox.meter.lock();
                    (meter.round_trip, meter.echoed) = (Some(round_trip), Some(Instant::now()));
                }
            }
        }
    }
}

/// Sends keys on both channels, and positions on the one that loses some.
pub(super) async fn send_input(
    keys_channel: Channel,
    pointer_channel: Channel,
    mut keys: mpsc::Receiver<KeysEvent>,
    mailbox: Arc<Mailbox>,
) {
    if !(keys_channel.opened().await && pointer_channel.opened().await) {
        return;
    }
    let (mut sequence, mut copies, mut position) = (0u32, KeyCopies::default(), PositionCopies::default());
    let (mut pointer_at, mut pointer_sent) = (None, Instant::now());
    loop {
        let again = copies.next().into_iter().chain(position.next()).min();
        tokio::select! {
            biased;
            event = keys.recv() => {
                let Some(event) = event else { return };
                let mut bytes = BytesMut::new();
                KeysMessage { sequence, event }.encode(&mut bytes);
                sequence = sequence.wrapping_add(1);
                copies.push(bytes.clone(), Instant::now());
                // The quick one first.
                if !pointer_channel.send(copies.bundle()).await || !keys_channel.send(bytes).await {
                    return;
                }
                mailbox.input_sent();
            }
            () = mailbox.pointer_waits.notified(), if pointer_at.is_none() => {
                pointer_at = Some((pointer_sent + POINTER_AGAIN).max(Instant::now()));
            }
            () = sleep_until(pointer_at) => {
                pointer_at = None;
                let taken = mailbox.outbox.lock().as_mut().and_then(|outbox| outbox.pointer.take());
                let Some(pointer) = taken else { continue };
                pointer_sent = Instant::now();
                if !pointer_channel.send(position.push(pointer, Instant::now())).await {
                    return;
                }
                mailbox.input_sent();
            }
            () = sleep_until(again) => {
                let now = Instant::now();
                for bytes in [copies.again(now), position.again(now)].into_iter().flatten() {
                    if !pointer_channel.send(bytes).await {
                        return;
                    }
                }
            }
            // Nothing is said on these; a closed one would say that for ever.
            message = keys_channel.next() => if message.is_none() { return },
            message = pointer_channel.next() => if message.is_none() { return },
        }
    }
}

pub(super) async fn receive_sound(track: RtpIn, sound: Sound, mailbox: Arc<Mailbox>) {
    while let Some(packet) = track.next().await {
        let arrival = Instant::now();
        {
            let mut meter = mailbox.meter.lock();
            meter.stats.bytes_received += packet.bytes as u64;
            meter.bytes.add(packet.bytes as u64, arrival);
        }
        sound.lock().packet(ReceivedPacket {
            sequence: packet.sequence,
            timestamp: packet.timestamp,
            starts: packet.marker,
            payload: packet.payload,
            arrival,
        });
    }
}
