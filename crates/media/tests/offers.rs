//! Offers of every kind, good and bad: each is answered or refused in words, none does harm.

#![allow(clippy::expect_used, reason = "a test bed that does not stand fails its test")]

mod common;

use common::{SIZE, grey_canvas};
use loco_media::whep::{MAX_OFFER_BYTES, Patched};
use loco_media::{Sender, SenderConfig};

const TYPE: Option<&str> = Some("application/sdp");

/// As Chromium 156 makes it for one receiving video and a data channel, shortened.
const OFFER: &str = "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
    a=extmap-allow-mixed\r\na=msid-semantic: WMS\r\nm=video 9 UDP/TLS/RTP/SAVPF 96 97 109 114\r\nc=IN IP4 0.0.0.0\r\n\
    a=rtcp:9 IN IP4 0.0.0.0\r\na=candidate:1 1 udp 2113937151 8f1e7c6d-0000-4000-8000-000000000000.local 50000 typ host \
    generation 0 network-cost 999\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=ice-options:trickle\r\n\
    a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:\
    FF\r\na=setup:actpass\r\na=mid:0\r\na=extmap:5 http://www.webrtc.org/experiments/rtp-hdrext/playout-delay\r\n\
    a=recvonly\r\na=rtcp-mux\r\na=rtcp-rsize\r\na=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\n\
    a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=rtpmap:109 H264/90000\r\na=rtcp-fb:109 nack pli\r\n\
    a=fmtp:109 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\na=rtpmap:114 AV1/90000\r\n\
    m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\n\
    a=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=ice-options:trickle\r\na=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:\
    BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\na=setup:actpass\r\na=mid:1\r\na=sctp-port:5000\r\n\
    a=max-message-size:262144\r\n";

fn sender() -> Sender {
    Sender::start(SenderConfig::default(), grey_canvas(SIZE, 60)).expect("a sender")
}

/// The status that an offer gets; a session that comes of it is deleted.
async fn status(sender: &Sender, kind: Option<&str>, body: &[u8]) -> u16 {
    match sender.whep_offer(kind, body).await {
        Ok(session) => {
            assert!(session.answer_sdp.starts_with("v=0") && session.answer_sdp.contains("a=candidate:"));
            sender.whep_delete(session.id.as_str()).await.expect("it is there");
            201
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            error.status()
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_and_wrong_offers() {
    let sender = sender();
    let session = sender.whep_offer(TYPE, OFFER.as_bytes()).await.expect("answered");
    for line in ["a=rtpmap:109 H264/90000", "a=sendonly", "profile-level-id=42e01f", "127.0.0.1", "a=setup:"] {
        assert!(session.answer_sdp.contains(line), "{line} is missing in\n{}", session.answer_sdp);
    }
    assert!(!session.answer_sdp.contains("AV1") && session.etag.starts_with('"'));
    sender.whep_delete(session.id.as_str()).await.expect("it is there");
    let (long, vp9) =
        (OFFER.repeat(MAX_OFFER_BYTES / OFFER.len() + 1), OFFER.replace("VP8", "VP9").replace("H264", "H265"));
    for (kind, body, want) in [
        (None, OFFER, 415),
        (Some("text/plain"), OFFER, 415),
        (Some("Application/SDP; charset=utf-8"), OFFER, 201),
        (TYPE, &long, 413),
        (TYPE, "", 400),
        (TYPE, "{\"sdp\":1}", 400),
        (TYPE, &vp9, 406),
        (TYPE, &OFFER.replace("m=video", "m=image"), 422),
        (TYPE, &OFFER.replace("a=recvonly", "a=sendonly"), 422),
        (TYPE, &OFFER.replace("a=fingerprint", "a=finger"), 422),
        (TYPE, &OFFER.replace("a=ice-pwd", "a=ice"), 422),
        (TYPE, &OFFER.replace("abcd\r\n", "a\r\n"), 400),
    ] {
        assert_eq!(status(&sender, kind, body.as_bytes()).await, want, "{kind:?} {}", &body[..body.len().min(60)]);
    }
    assert_eq!(status(&sender, TYPE, &[0xff, 0xfe, 0]).await, 400);
    sender.close().await;
    assert_eq!(status(&sender, TYPE, OFFER.as_bytes()).await, 503);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mangled_offers_do_no_harm() {
    let sender = sender();
    let lines: Vec<&str> = OFFER.split_inclusive("\r\n").collect();
    let mut bodies: Vec<Vec<u8>> = Vec::new();
    for i in 0..lines.len() {
        let others = |keep: &dyn Fn(usize) -> usize| {
            lines.iter().enumerate().flat_map(|(j, line)| line.repeat(keep(j)).into_bytes()).collect::<Vec<u8>>()
        };
        bodies.push(others(&|j| usize::from(j != i)));
        bodies.push(others(&|j| 1 + usize::from(j == i)));
        bodies.push(others(&|j| usize::from(j <= i)));
    }
    // A fixed series of changed bytes: what failed once fails again.
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..150 {
        let mut body = OFFER.as_bytes().to_vec();
        for _ in 0..4 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let at = random as usize % body.len();
            body[at] = (random >> 32) as u8;
        }
        bodies.push(body);
    }
    let mut seen = std::collections::BTreeMap::<u16, u32>::new();
    for body in &bodies {
        let status = status(&sender, TYPE, body).await;
        assert!([201, 400, 406, 422].contains(&status), "{status} for {}", String::from_utf8_lossy(body));
        *seen.entry(status).or_default() += 1;
    }
    println!("{seen:?}");
    assert_eq!(status(&sender, TYPE, OFFER.as_bytes()).await, 201, "and it still works");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trickling_restarting_and_deleting() {
    const FRAGMENT: Option<&str> = Some("application/trickle-ice-sdpfrag");
    let sender = sender();
    let session = sender.whep_offer(TYPE, OFFER.as_bytes()).await.expect("answered");
    let id = session.id.as_str();
    let trickle = "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n\
        a=candidate:2 1 udp 2113937151 127.0.0.1 50001 typ host\r\na=candidate:junk\r\na=end-of-candidates\r\n";
    let tag = Some(session.etag.as_str());
    assert_eq!(sender.whep_patch(id, FRAGMENT, tag, trickle.as_bytes()).await, Ok(Patched::NoContent));
    let restart =
        trickle.replace("ufrag:abcd", "ufrag:wxyz").replace("abcdefghijklmnopqrstuvwx", "zyxwvutsrqponmlkjihgfedc");
    let status = async |id: &str, kind, tag, body: &str| {
        sender.whep_patch(id, kind, tag, body.as_bytes()).await.map_err(|error| error.status())
    };
    assert_eq!(status("none", FRAGMENT, tag, trickle).await, Err(404));
    assert_eq!(status(id, TYPE, tag, trickle).await, Err(415));
    assert_eq!(status(id, FRAGMENT, None, trickle).await, Err(428));
    assert_eq!(status(id, FRAGMENT, Some("\"old\""), trickle).await, Err(412));
    assert_eq!(status(id, FRAGMENT, tag, "junk").await, Err(400));
    assert_eq!(status(id, FRAGMENT, tag, &restart).await, Err(422));
    let restarted = sender.whep_patch(id, FRAGMENT, Some("*"), restart.as_bytes()).await.expect("restarts");
    let Patched::Restarted { fragment, etag } = restarted else { panic!("{restarted:?}") };
    assert!(fragment.contains("a=ice-ufrag:") && fragment.contains("a=candidate:"), "{fragment}");
    assert_ne!(etag, session.etag);
    assert_eq!(status(id, FRAGMENT, tag, &restart).await, Err(412), "the old tag is no longer good");
    assert_eq!(status(id, FRAGMENT, Some(&etag), &restart).await, Ok(Patched::NoContent));
    sender.whep_delete(id).await.expect("it is there");
    assert_eq!(sender.whep_delete(id).await.map_err(|error| error.status()), Err(404));
}
