//! What goes over a connected session's channels, each way a task of its own.

use super::link::Sound;
use super::mailbox::Mailbox;
use crate::sound_link::ReceivedPacket;
use crate::transport::{Channel, RtpIn};
use bytes::BytesMut;
use loco_model::input::{KeysEvent, KeysMessage, PointerMessage};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Sends a time whenever asked; the other end sends it back.
pub(super) async fn ask_for_echoes(channel: Channel, mut asks: mpsc::Receiver<()>, mailbox: Arc<Mailbox>) {
    if !channel.opened().await {
        return;
    }
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

pub(super) async fn send_keys(channel: Channel, mut keys: mpsc::Receiver<KeysEvent>, mailbox: Arc<Mailbox>) {
    if !channel.opened().await {
        return;
    }
    let mut sequence = 0u32;
    loop {
        let event = tokio::select! {
            event = keys.recv() => event,
            _ = channel.next() => continue,
        };
        let Some(event) = event else { return };
        let mut bytes = BytesMut::new();
        KeysMessage { sequence, event }.encode(&mut bytes);
        sequence = sequence.wrapping_add(1);
        if !channel.send(bytes).await {
            return;
        }
        mailbox.input_sent();
    }
}

pub(super) async fn send_pointer(channel: Channel, mailbox: Arc<Mailbox>) {
    if !channel.opened().await {
        return;
    }
    let mut sequence = 0u32;
    loop {
        let taken = mailbox.outbox.lock().as_mut().and_then(|outbox| outbox.pointer.take());
        let Some(pointer) = taken else {
            mailbox.pointer_waits.notified().await;
            continue;
        };
        let mut bytes = BytesMut::new();
        PointerMessage { sequence, pointer }.encode(&mut bytes);
        sequence = sequence.wrapping_add(1);
        if !channel.send(bytes).await {
            return;
        }
        mailbox.input_sent();
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
