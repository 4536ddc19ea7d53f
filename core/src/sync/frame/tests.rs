//! Golden bytes of each kind, and what decoding refuses.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::ident::{Txn, Uuid};
use crate::sync::host::{Digest, DocKey, RejectReason};
use crate::sync::subscription::Subscription;
use crate::value::canonical::encode_text_id;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[track_caller]
fn assert_golden(frame: Frame, expected: &str) {
    let bytes = encode(&frame);
    assert_eq!(hex(&bytes), expected, "{}", frame.name());
    assert_eq!(decode(&bytes), Ok(Some(frame)));
}

fn position() -> Position {
    let (log, boot) = (LogId(Uuid([0xAA; 16])), BootId(Uuid([0xBB; 16])));
    Position { log, boot, txn: Txn(1_000) }
}

fn offered() -> Offered {
    let key = DocKey { collection: "cars".into(), id: encode_text_id("a").unwrap() };
    Offered { key, digest: Digest([0xDD; 16]), tombstone: true }
}

#[test]
fn control_frames_keep_their_bytes() {
    assert_golden(Frame::Ping, "0e01a0");
    assert_golden(Frame::Pong, "0f01a0");
    assert_golden(Frame::Probe { probe: 7 }, "8c01a10007");
    assert_golden(Frame::ProbeReply { probe: 7 }, "8d01a10007");
    let bye = Bye { reason: ByeReason::Replaced, text: "x".into() };
    assert_golden(Frame::Bye(bye), "9001a20001016178");
    let start = Start {
        round: 1,
        version: 2,
        unknown: Some(Unknown::NoCursor),
        interest: InterestHash([1; 16]),
    };
    assert_golden(Frame::Start(start), &format!("8301a40001010202010350{}", "01".repeat(16)));
}

#[test]
fn subs_keeps_its_bytes() {
    let args = Bytes::from_static(&[0xA0]);
    let subs = Subs {
        version: 1,
        interest: Interest::of(vec![Subscription { text: "q".into(), args }]),
        evict_generation: 2,
        write_permission: 3,
        cursor: Some(Cursor { position: position(), interest: InterestHash([1; 16]) }),
        stale: true,
        seen: Some(Hlc(4)),
        reached: None,
    };
    let (log, boot, interest) = ("aa".repeat(16), "bb".repeat(16), "01".repeat(16));
    assert_golden(
        Frame::Subs(Box::new(subs)),
        &format!(
            "8201a8000101818261714 1a0020203030483 50{log}50{boot}1903e80550{interest}06010704"
        )
        .replace(' ', ""),
    );
}

#[test]
fn hello_keeps_its_bytes() {
    let uuid = |byte| Uuid([byte; 16]);
    let hello = Hello {
        proto_min: 1,
        proto_max: 1,
        features: 0,
        app: AppId(uuid(1)),
        role: Role::Device,
        peer_key: PeerKey([2; 32]),
        log: LogId(uuid(3)),
        store: StoreId(uuid(4)),
        boot: BootId(uuid(5)),
        actor: Actor([6; 16]),
        nonce: Nonce(7),
        kept: Some((StoreId(uuid(8)), Nonce(9))),
        hlc: Hlc(10),
        tombstone_ttl_hours: 11,
        digest_version: 1,
        id_version: 1,
        device_name: "d".into(),
    };
    let bytes = |byte: &str| format!("50{}", byte.repeat(16));
    let expected = [
        "8101b2000101010200".to_owned(),
        format!("03{}0401055820{}", bytes("01"), "02".repeat(32)),
        format!("06{}07{}08{}09{}", bytes("03"), bytes("04"), bytes("05"), bytes("06")),
        format!("0a070b{}0c0a0d0b0e010f0110616411 09", bytes("08")).replace(' ', ""),
    ];
    assert_golden(Frame::Hello(Box::new(hello)), &expected.concat());
}

#[test]
fn offers_needs_and_outcomes_keep_their_bytes() {
    let digest = "dd".repeat(16);
    let offer = Offer { part: Part::Hold, round: 1, batch: 2, items: vec![offered(), offered()] };
    assert_golden(
        Frame::Offer(offer),
        &format!("8401a400010101020203582e0463617273026161{digest}01 00026161{digest}01")
            .replace(' ', ""),
    );
    let end = OfferEnd { part: Part::Provide, round: 1 };
    assert_golden(Frame::OfferEnd(end), "8501a200000101");
    let vector = Some(Bytes::from_static(b"v"));
    let items = vec![(0, vector.clone()), (300, None)];
    let need = Need { part: Part::Provide, round: 1, batch: 2, last: true, items };
    assert_golden(
        Frame::Need(need),
        "8601a500000101020203460002 76ac02000401".replace(' ', "").as_str(),
    );
    let outcomes = vec![
        (0, Outcome::Rejected(RejectReason::ClockSkew)),
        (1, Outcome::NeedBase { vector }),
        (2, Outcome::Evicted),
        (3, Outcome::Deleted { tombstone: Bytes::from_static(b"t") }),
    ];
    let ack = Ack { update: 5, last: true, outcomes, at: None };
    assert_golden(
        Frame::Ack(ack),
        "8b01a3000501010 24d00010201020276020303040174".replace(' ', "").as_str(),
    );
}

#[test]
fn what_a_side_has_reached_is_told_beside_the_rest() {
    let (log, boot) = ("aa".repeat(16), "bb".repeat(16));
    let subs = Subs {
        version: 1,
        interest: Interest::Everything,
        evict_generation: 2,
        write_permission: 3,
        cursor: None,
        stale: false,
        seen: None,
        reached: Some(position()),
    };
    assert_golden(
        Frame::Subs(Box::new(subs)),
        &format!("8201a400010202030308 8350{log}50{boot}1903e8").replace(' ', ""),
    );
    let at = Some(Txn(5));
    let begin = UpdBegin { update: 1, upto: None, item_count: 2, payload_bytes: 3, at };
    assert_golden(Frame::UpdBegin(begin), "8701a400010102020304 05".replace(' ', "").as_str());
    let ack = Ack { update: 5, last: true, outcomes: Vec::new(), at };
    assert_golden(Frame::Ack(ack), "8b01a40005010102400305");
}

#[test]
fn updates_keep_their_bytes() {
    let (log, boot) = ("aa".repeat(16), "bb".repeat(16));
    let upto = Some(position());
    let begin = UpdBegin { update: 1, upto, item_count: 2, payload_bytes: 3, at: None };
    assert_golden(
        Frame::UpdBegin(begin),
        &format!("8701a40001010202030383 50{log}50{boot}1903e8").replace(' ', ""),
    );
    let chunk = UpdChunk { update: 1, seq: 2, payload: Bytes::from_static(b"xyz") };
    assert_golden(
        Frame::UpdChunk(chunk),
        "8801010000000000000002000000 78797a".replace(' ', "").as_str(),
    );
    let end = UpdEnd { update: 1, hash: [0xCC; 16] };
    assert_golden(Frame::UpdEnd(end), &format!("8901a200010150{}", "cc".repeat(16)));
    assert_golden(
        Frame::Got(Got { update: 1, payload_bytes: 24 }),
        "8a01a2000101 1818".replace(' ', "").as_str(),
    );
}

#[test]
fn unknown_kinds_are_skipped_unless_critical() {
    assert_eq!(decode(&[0x3F, 1, 0xA0]), Ok(None));
    assert_eq!(decode(&[0xBF, 1, 0xA0]), Err(ProtocolError::UnknownFrame { kind: 0xBF }));
    assert_eq!(
        decode(&[0x8C, 2, 0xA0]),
        Err(ProtocolError::UnsupportedLayout { frame: "Probe", found: 2 })
    );
}

#[test]
fn unknown_keys_are_skipped() {
    // Key 5 holds a nested array, key 200 a text.
    let bytes = [0x8C, 1, 0xA3, 0x00, 0x07, 0x05, 0x82, 0x01, 0x80, 0x18, 0xC8, 0x61, 0x61];
    assert_eq!(decode(&bytes), Ok(Some(Frame::Probe { probe: 7 })));
}

#[test]
fn missing_and_foreign_fields_are_named() {
    let malformed = |field| Err(ProtocolError::Malformed { frame: "Probe", field });
    assert_eq!(decode(&[0x8C, 1, 0xA0]), malformed("probe"));
    assert_eq!(decode(&[0x8C, 1, 0xA1, 0x00, 0x60]), malformed("probe"));
    assert_eq!(decode(&[0x8C, 1, 0xA0, 0x00]), malformed("end"));
    assert_eq!(decode(&[0x8C, 1]), malformed("map"));
    assert_eq!(decode(&[0x8C, 1, 0xBF, 0xFF]), malformed("map"));
}

#[test]
fn a_claimed_length_allocates_nothing() {
    // An array of 2^40 subscriptions in a frame of some bytes.
    let mut bytes = vec![0x82, 1, 0xA1, 0x01, 0x9B];
    bytes.extend((1_u64 << 40).to_be_bytes());
    assert!(decode(&bytes).is_err());
    let mut list = vec![0x84, 1, 0xA4, 0, 0, 1, 1, 2, 1, 3, 0x4A];
    list.extend([0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]);
    let (frame, field) = ("Offer", "collection");
    let (found, limit) = (u64::MAX, COLLECTION_BYTES_MAX as u64);
    assert_eq!(decode(&list), Err(ProtocolError::TooMany { frame, field, found, limit }));
}

#[test]
fn deep_nesting_is_skipped_without_recursion() {
    let mut bytes = vec![0x8C, 1, 0xA2, 0x00, 0x07, 0x05];
    bytes.extend(std::iter::repeat_n(0x81, 900_000));
    bytes.push(0);
    assert_eq!(decode(&bytes), Ok(Some(Frame::Probe { probe: 7 })));
}

#[test]
fn too_long_a_frame_is_refused_unread() {
    let (found_bytes, limit_bytes) = (FRAME_BYTES_MAX + 1, FRAME_BYTES_MAX);
    let bytes = vec![0; found_bytes];
    assert_eq!(decode(&bytes), Err(ProtocolError::FrameTooLarge { found_bytes, limit_bytes }));
}

proptest! {
    #[test]
    fn any_bytes_of_any_kind_decode_or_are_refused(kind in any::<u8>(), body in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = [&[kind, 1][..], &body].concat();
        if let Ok(Some(frame)) = decode(&bytes) {
            prop_assert_eq!(decode(&encode(&frame)), Ok(Some(frame)));
        }
    }
}
