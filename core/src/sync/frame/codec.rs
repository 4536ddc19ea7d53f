//! Frames as bytes: kind, layout, body. The body is a CBOR map with small integers as keys (unknown keys are
//! skipped), except that of `UpdChunk`, which is 8 bytes of update, 4 of sequence number (little-endian), payload.
//! The table is in the documentation of [`crate::sync`].

use bytes::{BufMut, Bytes, BytesMut};
use minicbor::Encoder;
use minicbor::decode::Decoder;

use crate::ident::{Actor, AppId, BootId, LogId, PeerKey, StoreId, Txn, Uuid};
use crate::sync::cursor::{Cursor, InterestHash, Position, Unknown};
use crate::sync::error::{ByeReason, ProtocolError};
use crate::sync::host::{Nonce, Part};
use crate::sync::subscription::{Interest, Subscription};
use crate::time::Hlc;

use super::{
    Ack, BYE_BYTES_MAX, Bye, CHUNK_BYTES_MAX, FRAME_BYTES_MAX, Frame, GRANT_BYTES_MAX, Got, Hello,
    NAME_BYTES_MAX, Need, OFFER_COUNT_MAX, Offer, OfferEnd, Role, SUBSCRIPTION_BYTES_MAX,
    SUBSCRIPTION_COUNT_MAX, SUBSCRIPTIONS_BYTES_MAX, Start, Subs, UpdBegin, UpdChunk, UpdEnd,
    compact,
};

pub(crate) fn encode(frame: &Frame) -> Bytes {
    let mut map = Map::new(kind(frame));
    match frame {
        Frame::Hello(hello) => encode_hello(&mut map, hello),
        Frame::Subs(subs) => encode_subs(&mut map, subs),
        Frame::Start(start) => {
            map.number(0, start.round);
            map.number(1, start.version);
            map.optional(2, start.unknown.map(Unknown::code));
            map.bytes(3, &start.interest.0);
        }
        Frame::Grant { read } => map.bytes(0, read),
        Frame::Offer(offer) => {
            map.batch(offer.part, offer.round, Some(offer.batch));
            let mut list = compact::Writer::default();
            offer.items.iter().for_each(|item| list.offered(item));
            map.bytes(3, &list.finish());
        }
        Frame::OfferEnd(end) => map.batch(end.part, end.round, None),
        Frame::Need(need) => {
            map.batch(need.part, need.round, Some(need.batch));
            let mut list = compact::Writer::default();
            need.items.iter().for_each(|(index, vector)| list.need(*index, vector.as_ref()));
            map.bytes(3, &list.finish());
            map.number(4, u64::from(need.last));
        }
        Frame::UpdBegin(begin) => {
            map.number(0, begin.update);
            map.number(1, u64::from(begin.item_count));
            map.number(2, begin.payload_bytes);
            if let Some(upto) = begin.upto {
                map.position(3, upto);
            }
            map.optional(4, begin.at.map(|at| at.0));
        }
        Frame::UpdChunk(chunk) => return encode_chunk(chunk),
        Frame::UpdEnd(end) => {
            map.number(0, end.update);
            map.bytes(1, &end.hash);
        }
        Frame::Got(got) => {
            map.number(0, got.update);
            map.number(1, got.payload_bytes);
        }
        Frame::Ack(ack) => {
            map.number(0, ack.update);
            map.number(1, u64::from(ack.last));
            let mut list = compact::Writer::default();
            ack.outcomes.iter().for_each(|(index, outcome)| list.outcome(*index, outcome));
            map.bytes(2, &list.finish());
            map.optional(3, ack.at.map(|at| at.0));
        }
        Frame::Probe { probe } | Frame::ProbeReply { probe } => map.number(0, *probe),
        Frame::Ping | Frame::Pong => {}
        Frame::Bye(bye) => {
            map.number(0, bye.reason.code());
            map.text(1, &bye.text);
        }
    }
    map.finish()
}

/// Bit 7 marks a critical kind: who does not know it must not go on.
const CRITICAL: u8 = 0x80;
const LAYOUT: u8 = 1;
const HEADER_BYTES: usize = 2;
const CHUNK_HEADER_BYTES: usize = HEADER_BYTES + 12;

const fn kind(frame: &Frame) -> u8 {
    match frame {
        Frame::Hello(_) => 0x81,
        Frame::Subs(_) => 0x82,
        Frame::Start(_) => 0x83,
        Frame::Offer(_) => 0x84,
        Frame::OfferEnd(_) => 0x85,
        Frame::Need(_) => 0x86,
        Frame::UpdBegin(_) => 0x87,
        Frame::UpdChunk(_) => 0x88,
        Frame::UpdEnd(_) => 0x89,
        Frame::Got(_) => 0x8A,
        Frame::Ack(_) => 0x8B,
        Frame::Probe { .. } => 0x8C,
        Frame::ProbeReply { .. } => 0x8D,
        Frame::Ping => 0x0E,
        Frame::Pong => 0x0F,
        Frame::Bye(_) => 0x90,
        Frame::Grant { .. } => 0x11,
    }
}

fn encode_chunk(chunk: &UpdChunk) -> Bytes {
    let mut out = BytesMut::with_capacity(CHUNK_HEADER_BYTES + chunk.payload.len());
    out.put_slice(&[0x88, LAYOUT]);
    out.put_u64_le(chunk.update);
    out.put_u32_le(chunk.seq);
    out.put_slice(&chunk.payload);
    out.freeze()
}

fn encode_hello(map: &mut Map, hello: &Hello) {
    map.number(0, u64::from(hello.proto_min));
    map.number(1, u64::from(hello.proto_max));
    map.number(2, hello.features);
    map.bytes(3, &hello.app.0.0);
    map.number(4, if hello.role == Role::Server { 0 } else { 1 });
    map.bytes(5, &hello.peer_key.0);
    map.bytes(6, &hello.log.0.0);
    map.bytes(7, &hello.store.0.0);
    map.bytes(8, &hello.boot.0.0);
    map.bytes(9, &hello.actor.0);
    map.number(10, hello.nonce.0);
    if let Some((store, _)) = hello.kept {
        map.bytes(11, &store.0.0);
    }
    map.number(12, hello.hlc.0);
    map.number(13, u64::from(hello.tombstone_ttl_hours));
    map.number(14, u64::from(hello.digest_version));
    map.number(15, u64::from(hello.id_version));
    map.text(16, &hello.device_name);
    map.optional(17, hello.kept.map(|(_, nonce)| nonce.0));
}

fn encode_subs(map: &mut Map, subs: &Subs) {
    map.number(0, subs.version);
    if let Interest::Queries(queries) = &subs.interest {
        map.subscriptions(1, queries);
    }
    map.number(2, subs.evict_generation);
    map.number(3, subs.write_permission);
    if let Some(cursor) = subs.cursor {
        map.position(4, cursor.position);
        map.bytes(5, &cursor.interest.0);
    }
    map.optional(6, subs.stale.then_some(1));
    map.optional(7, subs.seen.map(|hlc| hlc.0));
    if let Some(reached) = subs.reached {
        map.position(8, reached);
    }
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Option<Frame>, ProtocolError> {
    if bytes.len() > FRAME_BYTES_MAX {
        let (found_bytes, limit_bytes) = (bytes.len(), FRAME_BYTES_MAX);
        return Err(ProtocolError::FrameTooLarge { found_bytes, limit_bytes });
    }
    let [kind, layout, body @ ..] = bytes else {
        return Err(ProtocolError::Malformed { frame: "frame", field: "header" });
    };
    let Some(name) = name(*kind) else {
        let unknown = ProtocolError::UnknownFrame { kind: *kind };
        return if kind & CRITICAL == 0 { Ok(None) } else { Err(unknown) };
    };
    if *layout != LAYOUT {
        return Err(ProtocolError::UnsupportedLayout { frame: name, found: *layout });
    }
    if *kind == 0x88 {
        return decode_chunk(body).map(Some);
    }
    let fields = Fields::parse(body, name)?;
    decode_body(*kind, &fields).map(Some)
}

const fn name(kind: u8) -> Option<&'static str> {
    Some(match kind {
        0x81 => "Hello",
        0x82 => "Subs",
        0x83 => "Start",
        0x84 => "Offer",
        0x85 => "OfferEnd",
        0x86 => "Need",
        0x87 => "UpdBegin",
        0x88 => "UpdChunk",
        0x89 => "UpdEnd",
        0x8A => "Got",
        0x8B => "Ack",
        0x8C => "Probe",
        0x8D => "ProbeReply",
        0x0E => "Ping",
        0x0F => "Pong",
        0x90 => "Bye",
        0x11 => "Grant",
        _ => return None,
    })
}

fn decode_body(kind: u8, fields: &Fields<'_>) -> Result<Frame, ProtocolError> {
    Ok(match kind {
        0x81 => Frame::Hello(Box::new(decode_hello(fields)?)),
        0x82 => Frame::Subs(Box::new(decode_subs(fields)?)),
        0x83 => Frame::Start(decode_start(fields)?),
        0x84 => Frame::Offer(decode_offer(fields)?),
        0x85 => {
            Frame::OfferEnd(OfferEnd { part: fields.part()?, round: fields.number(1, "round")? })
        }
        0x86 => Frame::Need(decode_need(fields)?),
        0x87 => Frame::UpdBegin(UpdBegin {
            update: fields.number(0, "update")?,
            item_count: fields.small(1, "item count")?,
            payload_bytes: fields.number(2, "payload bytes")?,
            upto: fields.position(3, "upto")?,
            at: fields.optional(4, "at")?.map(Txn),
        }),
        0x89 => Frame::UpdEnd(UpdEnd {
            update: fields.number(0, "update")?,
            hash: fields.fixed(1, "hash")?,
        }),
        0x8A => Frame::Got(Got {
            update: fields.number(0, "update")?,
            payload_bytes: fields.number(1, "payload bytes")?,
        }),
        0x8B => Frame::Ack(decode_ack(fields)?),
        0x8C => Frame::Probe { probe: fields.number(0, "probe")? },
        0x8D => Frame::ProbeReply { probe: fields.number(0, "probe")? },
        0x0E => Frame::Ping,
        0x0F => Frame::Pong,
        0x11 => {
            let read = fields.slice(0, "read")?;
            fields.check_count("read", read.len(), GRANT_BYTES_MAX)?;
            Frame::Grant { read: Bytes::copy_from_slice(read) }
        }
        _ => Frame::Bye(Bye {
            reason: ByeReason::from_code(fields.number(0, "reason")?),
            text: fields.text(1, "text", BYE_BYTES_MAX)?,
        }),
    })
}

fn decode_chunk(body: &[u8]) -> Result<Frame, ProtocolError> {
    const FRAME: &str = "UpdChunk";
    let Some((update, rest)) = body.split_first_chunk::<8>() else {
        return Err(ProtocolError::Malformed { frame: FRAME, field: "update" });
    };
    let Some((seq, payload)) = rest.split_first_chunk::<4>() else {
        return Err(ProtocolError::Malformed { frame: FRAME, field: "seq" });
    };
    if payload.len() > CHUNK_BYTES_MAX {
        let (found, limit) = (payload.len() as u64, CHUNK_BYTES_MAX as u64);
        return Err(ProtocolError::TooMany { frame: FRAME, field: "payload", found, limit });
    }
    Ok(Frame::UpdChunk(UpdChunk {
        update: u64::from_le_bytes(*update),
        seq: u32::from_le_bytes(*seq),
        payload: Bytes::copy_from_slice(payload),
    }))
}

fn decode_hello(fields: &Fields<'_>) -> Result<Hello, ProtocolError> {
    let kept = match fields.optional(17, "kept nonce")? {
        None => None,
        Some(nonce) => Some((StoreId(fields.uuid(11, "kept store")?), Nonce(nonce))),
    };
    Ok(Hello {
        proto_min: fields.small(0, "proto min")?,
        proto_max: fields.small(1, "proto max")?,
        features: fields.number(2, "features")?,
        app: AppId(fields.uuid(3, "app")?),
        role: if fields.number(4, "role")? == 0 { Role::Server } else { Role::Device },
        peer_key: PeerKey(fields.fixed(5, "peer key")?),
        log: LogId(fields.uuid(6, "log")?),
        store: StoreId(fields.uuid(7, "store")?),
        boot: BootId(fields.uuid(8, "boot")?),
        actor: Actor(fields.fixed(9, "actor")?),
        nonce: Nonce(fields.number(10, "nonce")?),
        kept,
        hlc: Hlc(fields.number(12, "hlc")?),
        tombstone_ttl_hours: fields.small(13, "tombstone ttl")?,
        digest_version: fields.small(14, "digest version")?,
        id_version: fields.small(15, "id version")?,
        device_name: fields.text(16, "device name", NAME_BYTES_MAX)?,
    })
}

fn decode_subs(fields: &Fields<'_>) -> Result<Subs, ProtocolError> {
    let cursor = match fields.position(4, "cursor")? {
        None => None,
        Some(position) => {
            Some(Cursor { position, interest: InterestHash(fields.fixed(5, "cursor's interest")?) })
        }
    };
    Ok(Subs {
        version: fields.number(0, "version")?,
        interest: fields.interest(1, "subscriptions")?,
        evict_generation: fields.number(2, "evict generation")?,
        write_permission: fields.number(3, "write permission")?,
        cursor,
        stale: fields.optional(6, "stale")?.is_some_and(|flag| flag != 0),
        seen: fields.optional(7, "seen")?.map(Hlc),
        reached: fields.position(8, "reached")?,
    })
}

fn decode_start(fields: &Fields<'_>) -> Result<Start, ProtocolError> {
    let unknown = match fields.optional(2, "unknown")? {
        None => None,
        Some(code) => Some(Unknown::from_code(code).ok_or(fields.malformed("unknown"))?),
    };
    Ok(Start {
        round: fields.number(0, "round")?,
        version: fields.number(1, "version")?,
        unknown,
        interest: InterestHash(fields.fixed(3, "interest")?),
    })
}

fn decode_offer(fields: &Fields<'_>) -> Result<Offer, ProtocolError> {
    let mut list = fields.list(3, "items")?;
    let mut items = Vec::new();
    while !list.is_empty() {
        fields.check_count("items", items.len() + 1, OFFER_COUNT_MAX)?;
        items.push(list.offered()?);
    }
    let (part, round, batch) = fields.batch()?;
    Ok(Offer { part, round, batch, items })
}

fn decode_need(fields: &Fields<'_>) -> Result<Need, ProtocolError> {
    let mut list = fields.list(3, "items")?;
    let mut items = Vec::new();
    while !list.is_empty() {
        fields.check_count("items", items.len() + 1, OFFER_COUNT_MAX)?;
        items.push(list.need()?);
    }
    let (part, round, batch) = fields.batch()?;
    Ok(Need { part, round, batch, last: fields.number(4, "last")? != 0, items })
}

fn decode_ack(fields: &Fields<'_>) -> Result<Ack, ProtocolError> {
    let mut list = fields.list(2, "outcomes")?;
    let mut outcomes = Vec::new();
    while !list.is_empty() {
        outcomes.push(list.outcome()?);
    }
    let update = fields.number(0, "update")?;
    let last = fields.number(1, "last")? != 0;
    Ok(Ack { update, last, outcomes, at: fields.optional(3, "at")?.map(Txn) })
}

/// Writes a frame's header and its map. Keys rise, so that equal frames have equal bytes.
struct Map {
    out: Vec<u8>,
    count: u8,
}

/// Where the one-byte header of the map stands.
const MAP_AT: usize = HEADER_BYTES;
/// A map of fewer entries has a header of one byte.
const FIELDS_MAX: usize = 24;

impl Map {
    fn new(kind: u8) -> Self {
        Self { out: vec![kind, LAYOUT, 0xA0], count: 0 }
    }

    fn finish(mut self) -> Bytes {
        debug_assert!(usize::from(self.count) < FIELDS_MAX, "the header of the map is one byte");
        self.out[MAP_AT] |= self.count;
        self.out.into()
    }

    fn value(&mut self, key: u8) -> Encoder<&mut Vec<u8>> {
        self.count += 1;
        self.out.push(key);
        Encoder::new(&mut self.out)
    }

    fn number(&mut self, key: u8, number: u64) {
        self.value(key).u64(number).expect(INFALLIBLE);
    }

    fn optional(&mut self, key: u8, number: Option<u64>) {
        if let Some(number) = number {
            self.number(key, number);
        }
    }

    fn bytes(&mut self, key: u8, bytes: &[u8]) {
        self.value(key).bytes(bytes).expect(INFALLIBLE);
    }

    fn text(&mut self, key: u8, text: &str) {
        self.value(key).str(text).expect(INFALLIBLE);
    }

    fn batch(&mut self, part: Part, round: u64, batch: Option<u64>) {
        self.number(0, if part == Part::Provide { 0 } else { 1 });
        self.number(1, round);
        self.optional(2, batch);
    }

    fn position(&mut self, key: u8, position: Position) {
        let mut value = self.value(key);
        let parts = value.array(3).and_then(|value| value.bytes(&position.log.0.0));
        let parts = parts.and_then(|value| value.bytes(&position.boot.0.0));
        parts.and_then(|value| value.u64(position.txn.0)).expect(INFALLIBLE);
    }

    fn subscriptions(&mut self, key: u8, queries: &[Subscription]) {
        let mut value = self.value(key);
        value.array(queries.len() as u64).expect(INFALLIBLE);
        for query in queries {
            let pair = value.array(2).and_then(|value| value.str(&query.text));
            pair.and_then(|value| value.bytes(&query.args)).expect(INFALLIBLE);
        }
    }
}

const INFALLIBLE: &str = "writing to a vector does not fail";

/// A frame's map, cut into the bytes of its values.
struct Fields<'b> {
    frame: &'static str,
    values: [Option<&'b [u8]>; FIELDS_MAX],
}

impl<'b> Fields<'b> {
    fn parse(body: &'b [u8], frame: &'static str) -> Result<Self, ProtocolError> {
        let malformed = |field| ProtocolError::Malformed { frame, field };
        let mut decoder = Decoder::new(body);
        let count = decoder.map().ok().flatten().ok_or(malformed("map"))?;
        let mut values = [None; FIELDS_MAX];
        for _ in 0..count {
            let key = decoder.u64().map_err(|_| malformed("key"))?;
            let start = decoder.position();
            decoder.skip().map_err(|_| malformed("value"))?;
            let value = body.get(start..decoder.position()).ok_or(malformed("value"))?;
            if let Some(place) = usize::try_from(key).ok().and_then(|key| values.get_mut(key)) {
                *place = Some(value);
            }
        }
        if decoder.position() != body.len() {
            return Err(malformed("end"));
        }
        Ok(Self { frame, values })
    }

    fn malformed(&self, field: &'static str) -> ProtocolError {
        ProtocolError::Malformed { frame: self.frame, field }
    }

    fn required(&self, key: usize, field: &'static str) -> Result<Decoder<'b>, ProtocolError> {
        self.values[key].map(Decoder::new).ok_or(self.malformed(field))
    }

    fn number(&self, key: usize, field: &'static str) -> Result<u64, ProtocolError> {
        self.required(key, field)?.u64().map_err(|_| self.malformed(field))
    }

    fn optional(&self, key: usize, field: &'static str) -> Result<Option<u64>, ProtocolError> {
        self.values[key].map(|_| self.number(key, field)).transpose()
    }

    fn small<T: TryFrom<u64>>(&self, key: usize, field: &'static str) -> Result<T, ProtocolError> {
        T::try_from(self.number(key, field)?).map_err(|_| self.malformed(field))
    }

    fn slice(&self, key: usize, field: &'static str) -> Result<&'b [u8], ProtocolError> {
        self.required(key, field)?.bytes().map_err(|_| self.malformed(field))
    }

    fn fixed<const N: usize>(
        &self,
        key: usize,
        field: &'static str,
    ) -> Result<[u8; N], ProtocolError> {
        self.slice(key, field)?.try_into().map_err(|_| self.malformed(field))
    }

    fn uuid(&self, key: usize, field: &'static str) -> Result<Uuid, ProtocolError> {
        self.fixed(key, field).map(Uuid)
    }

    fn text(&self, key: usize, field: &'static str, limit: usize) -> Result<String, ProtocolError> {
        let text = self.required(key, field)?.str().map_err(|_| self.malformed(field))?;
        self.check_count(field, text.len(), limit)?;
        Ok(text.to_owned())
    }

    fn list(&self, key: usize, field: &'static str) -> Result<compact::Reader, ProtocolError> {
        let bytes = Bytes::copy_from_slice(self.slice(key, field)?);
        Ok(compact::Reader::new(bytes, self.frame))
    }

    fn part(&self) -> Result<Part, ProtocolError> {
        match self.number(0, "part")? {
            0 => Ok(Part::Provide),
            1 => Ok(Part::Hold),
            _ => Err(self.malformed("part")),
        }
    }

    fn batch(&self) -> Result<(Part, u64, u64), ProtocolError> {
        Ok((self.part()?, self.number(1, "round")?, self.number(2, "batch")?))
    }

    fn position(&self, key: usize, field: &'static str) -> Result<Option<Position>, ProtocolError> {
        if self.values[key].is_none() {
            return Ok(None);
        }
        let mut decoder = self.required(key, field)?;
        let position = read_position(&mut decoder).ok_or(self.malformed(field))?;
        Ok(Some(position))
    }

    /// Absent means everything.
    fn interest(&self, key: usize, field: &'static str) -> Result<Interest, ProtocolError> {
        if self.values[key].is_none() {
            return Ok(Interest::Everything);
        }
        let mut decoder = self.required(key, field)?;
        let count = decoder.array().ok().flatten().ok_or(self.malformed(field))?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        self.check_count(field, count, SUBSCRIPTION_COUNT_MAX)?;
        let mut queries = Vec::new();
        let mut bytes = 0;
        for _ in 0..count {
            let (text, args) = read_subscription(&mut decoder).ok_or(self.malformed(field))?;
            let one = "bytes of a subscription";
            self.check_count(one, text.len().max(args.len()), SUBSCRIPTION_BYTES_MAX)?;
            bytes += text.len() + args.len();
            self.check_count("bytes of all subscriptions", bytes, SUBSCRIPTIONS_BYTES_MAX)?;
            queries.push(Subscription { text: text.into(), args: Bytes::copy_from_slice(args) });
        }
        Ok(Interest::of(queries))
    }

    fn check_count(
        &self,
        field: &'static str,
        found: usize,
        limit: usize,
    ) -> Result<(), ProtocolError> {
        if found <= limit {
            return Ok(());
        }
        let (found, limit) = (found as u64, limit as u64);
        Err(ProtocolError::TooMany { frame: self.frame, field, found, limit })
    }
}

fn read_position(decoder: &mut Decoder<'_>) -> Option<Position> {
    if decoder.array().ok()?? != 3 {
        return None;
    }
    let log = LogId(Uuid(decoder.bytes().ok()?.try_into().ok()?));
    let boot = BootId(Uuid(decoder.bytes().ok()?.try_into().ok()?));
    let txn = Txn(decoder.u64().ok()?);
    (txn <= Txn::MAX).then_some(Position { log, boot, txn })
}

fn read_subscription<'b>(decoder: &mut Decoder<'b>) -> Option<(&'b str, &'b [u8])> {
    if decoder.array().ok()?? != 2 {
        return None;
    }
    Some((decoder.str().ok()?, decoder.bytes().ok()?))
}
