#!/usr/bin/env python3
"""Reads every committed vector by what core/ARCHITECTURE.md says, and compares with the *.json beside it.

Standard library only, and nothing of the engine: a format that the document does not describe is not read here. Exits
with 1 and a difference when something does not fit; `--bless` writes the *.json files, to be read in the diff.
"""
import difflib, json, pathlib, struct, sys, uuid

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "core" / "tests" / "vectors"


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


class Reader:
    def __init__(self, data):
        self.data, self.at, self.table, self.path_before = data, 0, None, b""

    def take(self, count):
        assert self.at + count <= len(self.data), f"bytes ran out at {self.at}"
        self.at += count
        return self.data[self.at - count : self.at]

    def byte(self):
        return self.take(1)[0]

    def version(self):
        found = self.byte()
        assert found == 1, f"version {found} at {self.at}"

    def varint(self):
        number, shift = 0, 0
        while True:
            byte = self.byte()
            assert shift == 0 or byte != 0, "a varint is as short as possible"
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                assert number < 1 << 64, "a varint has 64 bits"
                return number

    def zigzag(self):
        raw = self.varint()
        return (raw >> 1) ^ -(raw & 1)

    def u64(self):
        return int.from_bytes(self.take(8), "little")

    def bytes(self):
        return self.take(self.varint())

    def text(self):
        return self.bytes().decode()

    def list(self, item):
        return [item() for _ in range(self.varint())]

    def uuid(self):
        return str(uuid.UUID(bytes=self.take(16)))

    def hex(self, count):
        return self.take(count).hex()

    def is_end(self):
        return self.at == len(self.data)

    def end(self, result):
        assert self.is_end(), f"{len(self.data) - self.at} bytes remain"
        return result

    def value(self):
        tag = self.byte()
        if tag >= 0xC0:
            return self.take(tag & 0x3F).decode()
        if tag >= 0x80:
            return tag & 0x3F
        if tag == 8:
            return self.list(self.value)
        if tag == 9:
            members = self.list(lambda: (self.text(), self.value()))
            names = [name.encode() for name, _ in members]
            assert names == sorted(set(names)), "names ascend"
            return dict(members)
        read = {0: lambda: None, 1: lambda: False, 2: lambda: True, 3: self.zigzag,
                4: lambda: self.varint() + (1 << 63), 5: lambda: struct.unpack("<d", self.take(8))[0],
                6: lambda: {"bytes": self.bytes().hex()}, 7: self.text}
        return read[tag]()

    def read_table(self):
        actors = self.list(lambda: self.take(16))
        assert actors == sorted(set(actors)), "actors ascend"
        index = self.varint()
        self.table = (actors, (self.varint(), actors[index - 1]) if index else (0, None))

    def dot(self):
        actors, default = self.table
        index = self.varint()
        dot = default if index == 0 else ((default[0] - self.zigzag()) % (1 << 64), actors[index - 1])
        assert dot[0] != 0 and (index == 0 or dot != default), "a dot has one form"
        return dot

    def said_dot(self):
        return say_dot(self.dot())

    def dots(self):
        dots = self.list(self.dot)
        assert all(a[1] < b[1] for a, b in zip(dots, dots[1:])), "one dot an actor, by actor"
        return [say_dot(dot) for dot in dots]

    def path(self):
        shared = self.varint()
        assert shared <= len(self.path_before)
        self.path_before = self.path_before[:shared] + self.bytes()
        steps = self.path_before.split(b"\0")
        assert steps.pop() == b"", "a path is made of whole steps"
        return [step.replace(b"\1\1", b"\0").replace(b"\1\2", b"\1").decode() for step in steps]

    def component(self, in_delta):
        header = self.byte()
        kind = header & 0x7F
        name = dict(enumerate(["mark", "map", "register", "attachment", "counter", "pn counter"])).get(kind, kind)
        said = {"kind": name, "path": self.path()}
        if header & 0x80:
            said["entries"] = [{"dot": say_dot(self.table[1]), "content": self.content(kind)}]
            return said

        def entry():
            entry = {"dot": self.said_dot()}
            if not in_delta or self.byte() == 1:
                entry["content"] = self.content(kind)
            return entry

        return said | {"entries": self.list(entry)}

    def content(self, kind):
        if kind == 0:
            return {"strict": bool(self.byte())}
        if kind == 1:
            return None
        if kind in (2, 3, 5):
            return self.value()
        if kind != 4:
            return self.bytes().hex()
        form = self.byte()
        if form == 2:
            return {"sum": (generation := self.said_dot()) and self.zigzag(), "of": generation}
        return {("set", "sum")[form]: self.zigzag()}

    def document(self):
        self.version()
        self.path_before = b""
        return {"vector": self.dots(), "trimmed": self.dots(), "components": self.list(lambda: self.component(False))}

    def delta(self):
        self.version()
        flags, said = self.byte(), {"author": None}
        if flags & 1:
            said["author"] = self.said_dot()
        digest = None
        if flags & (8 | 16):
            self.version()
            digest = f"{int.from_bytes(self.take(16), 'little'):032x}"
        said["base"], said["raised"] = [], []
        for dot, behind in self.list(lambda: (self.dot(), self.varint())):
            if behind != 1:
                said["base"].append(say_dot((dot[0] - max(behind - 1, 0), dot[1])))
            if behind != 0:
                said["raised"].append(say_dot(dot))
        if digest:
            said["base"] = {"digest": digest, "part" if flags & 8 else "listed": said["base"]}
        if flags & 4:
            said["trimmed"] = self.dots()
        self.path_before = b""
        said["regions"] = self.list(self.path)
        said["listed"] = self.list(lambda: self.component(True))
        said["increments"] = self.list(lambda: {"kind": self.byte(), "path": self.path(), "by": self.value()})
        return said

    def transaction(self):
        self.version()
        count = self.varint()
        said = {"slots": [f"{self.u64():016x}" for _ in range(count - 1)] if count else None}
        said |= {"id": self.uuid(), "app": self.uuid(), "wall_ms": self.varint()}
        origin = self.byte()
        said["origin"] = {"peer": self.hex(32), "home": self.varint()} if origin == 1 else ["http", 1, "system"][origin]
        collections = self.list(self.text)
        self.read_table()

        def op():
            kind = self.byte()
            if kind < 3:
                target = {"collection": collections[self.varint()], "id": doc_id(self.bytes())}
                return {"merge": target | {"delta": self.delta()}} if kind == 1 else {"evict": target}
            if kind == 3:
                return {"remote": {"peer": self.hex(32), "state_hex": self.bytes().hex()}}
            assert kind == 4
            return {"system": self.text()}

        return said | {"ops": self.list(op)}

    def checkpoint_part(self):
        self.version()
        if self.byte() == 1:
            said = {"clock": self.varint(), "catalog": self.list(lambda: json.loads(self.text())),
                    "evictions": self.list(lambda: {"app": self.uuid(), "count": self.varint()}),
                    "remotes": self.list(lambda: {"app": self.uuid(), "peer": self.hex(32), "state": self.bytes().hex()})}
            said |= {} if self.is_end() else {"wall": self.varint(), "newest": self.varint()}
            return said | ({} if self.is_end() else {"issued": self.varint()})
        said = {"app": self.uuid(), "collection": self.text()}
        self.read_table()

        def raised():
            txn, dot = self.varint(), self.dot()
            return {"txn": txn, "before": say_dot((dot[0] - 1, dot[1]))}

        def entry():
            entry = {"id": doc_id(self.bytes()), "changed_at": self.varint(), "by": self.hex(32) if self.byte() else None}
            entry |= {"by_another_at": self.varint(), "history_from": self.varint(), "raised": self.list(raised)}
            return entry | ({"document": self.document()} if self.byte() == 1 else {"evicted": self.dots()})

        return said | {"entries": self.list(entry)}

    def remote_change(self):
        tag = self.byte()
        if tag == 1:
            return {"store": self.uuid()}
        if tag == 2:
            return {"cursor": self.cursor()}
        if tag == 3:
            return {"cursor": None}
        if tag == 4:
            return {"ours": self.list(self.varint)}
        if tag == 5:
            return {"theirs": self.varint()}
        if tag == 6:
            return {"seen": say_dot((self.take(16), self.varint())[::-1])}
        if tag == 7:
            return {"owed": self.owed()}
        if tag == 8:
            return {"not_owed": {"collection": self.text(), "id": doc_id(self.bytes())}}
        if tag == 9:
            return {"unlisted": self.varint()}
        if tag == 10:
            return {"unlisted": None}
        if tag == 11:
            return {"reached": self.position()}
        if tag == 12:
            return {"reached_on": self.varint()}
        if tag == 13:
            return {"shared": self.varint()}
        raise AssertionError(f"change {tag} of a remote record")

    def position(self):
        return {"log": self.uuid(), "boot": self.uuid(), "txn": self.varint()}

    def cursor(self):
        return self.position() | {"interest": self.hex(16)}

    def owed(self):
        return {"collection": self.text(), "id": doc_id(self.bytes()),
                "reason": REASONS[self.byte()], "write_permission": self.varint()}

    def remote_record(self):
        if self.data[self.at] == 2:
            self.byte()
            changes = []
            while self.at < len(self.data):
                changes.append(self.remote_change())
            return {"changes": changes}
        self.version()
        flags, said = self.byte(), {}
        if flags & 1:
            said["store"] = self.uuid()
        if flags & 2:
            said["cursor"] = self.cursor()
        if flags & 4:
            said["theirs"] = self.varint()
        if flags & 8:
            said["seen"] = say_dot((self.take(16), self.varint())[::-1])
        if flags & 16:
            said["unlisted"] = self.varint()
        if flags & 32:
            said["reached"] = self.position()
        if flags & 64:
            said["shared"] = self.varint()
        said["ours"] = self.list(self.varint)
        said["owed"] = self.list(self.owed)
        return said

    def vector(self):
        self.version()
        return self.list(lambda: say_dot((self.take(16), self.varint())[::-1]))

    def items(self, item):
        """A list without a count, to the end; the collection of a key stands for the following ones."""
        self.collection, items = None, []
        while not self.is_end():
            items.append(item())
        return items

    def key(self):
        self.collection = self.text() or self.collection
        return {"collection": self.collection, "id": doc_id(self.bytes())}

    def optional_vector(self):
        length = self.varint()
        return Reader(self.take(length - 1)).whole(Reader.vector) if length else None

    def offer(self):
        return self.key() | {"digest": self.hex(16), "tombstone": bool(self.byte() & 1)}

    def need(self):
        return {"index": self.varint(), "vector": self.optional_vector()}

    def outcome(self):
        index, kind = self.varint(), self.byte()
        what = {1: lambda: {"rejected": REASONS[self.byte() - 1]}, 2: lambda: {"base_missing": self.optional_vector()},
                3: lambda: "evicted", 4: lambda: {"deleted": standalone_delta(self.bytes())}}
        return {"index": index, "outcome": what[kind]()}

    def item(self):
        key, kind = self.key(), self.byte()
        what = {1: lambda: {"full": standalone_delta(self.bytes())},
                2: lambda: {"base": self.hex(16), "delta": standalone_delta(self.bytes())},
                3: lambda: {"tombstone": standalone_delta(self.bytes())},
                4: lambda: {"left": self.hex(16)}, 5: lambda: "evicted"}
        return key | {"item": what[kind]()}

    def whole(self, read):
        return self.end(read(self))

    def cbor(self):
        head = self.byte()
        major, info = head >> 5, head & 31
        if major == 7:
            return {20: False, 21: True}[info]
        number = info if info < 24 else int.from_bytes(self.take(1 << (info - 24)), "big")
        assert info < 24 or number >= {24: 24, 25: 1 << 8, 26: 1 << 16, 27: 1 << 32}[info], "a head is the shortest"
        read = {0: lambda: number, 1: lambda: -1 - number, 2: lambda: self.take(number),
                3: lambda: self.take(number).decode(), 4: lambda: [self.cbor() for _ in range(number)],
                5: lambda: {self.cbor(): self.cbor() for _ in range(number)}}
        return read[major]()


REASONS = ["forbidden", "clock skew", "too large", "malformed"]
FRAMES = {
    0x81: ("Hello", ["proto_min", "proto_max", "features", "app", "role", "peer_key", "log", "store", "boot", "actor",
                     "nonce", "kept_store", "hlc", "tombstone_ttl_hours", "digest_version", "id_version", "device_name",
                     "kept_nonce"]),
    0x82: ("Subs", ["version", "subscriptions", "evict_generation", "write_permission", "cursor", "interest", "stale", "seen",
                    "reached"]),
    0x83: ("Start", ["round", "version", "unknown", "interest"]),
    0x84: ("Offer", ["part", "round", "batch", "items"]), 0x85: ("OfferEnd", ["part", "round"]),
    0x86: ("Need", ["part", "round", "batch", "items", "last"]),
    0x87: ("UpdBegin", ["update", "item_count", "payload_bytes", "upto", "at"]), 0x89: ("UpdEnd", ["update", "hash"]),
    0x8A: ("Got", ["update", "payload_bytes"]), 0x8B: ("Ack", ["update", "last", "outcomes", "at"]),
    0x8C: ("Probe", ["probe"]), 0x8D: ("ProbeReply", ["probe"]), 0x0E: ("Ping", []), 0x0F: ("Pong", []),
    0x90: ("Bye", ["reason", "text"]), 0x11: ("Grant", ["read"]),
}
BYE = ["normal", "replaced", "protocol", "timeout", "shutdown", "permission changed", "unavailable", "reset"]


def say_dot(dot):
    return f"{dot[0]}@{dot[1].hex()}"


def say_cbor(value):
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, list):
        return [say_cbor(item) for item in value]
    return {name: say_cbor(item) for name, item in value.items()} if isinstance(value, dict) else value


def doc_id(data):
    return say_cbor(Reader(data).whole(Reader.cbor))


def standalone(read):
    def read_both(reader):
        reader.read_table()
        return read(reader)
    return lambda data: Reader(data).whole(read_both)


standalone_delta = standalone(Reader.delta)


def as_uuid(data):
    return str(uuid.UUID(bytes=data))


def frame(data):
    if data[:4] == b"BPG1":
        return {"greeting": Reader(data[4:]).whole(lambda reader: reader.hex(32))}
    assert data[1] == 1, "layout 1"
    if data[0] == 0x88:
        body = Reader(data[2:])
        said = {"frame": "UpdChunk", "update": body.u64(), "seq": int.from_bytes(body.take(4), "little")}
        return said | {"items": body.items(body.item)}
    name, fields = FRAMES[data[0]]
    found = Reader(data[2:]).whole(Reader.cbor)
    assert list(found) == sorted(found), "keys ascend"
    said = {"frame": name} | {field: found.get(key) for key, field in enumerate(fields)}
    position = lambda p: {"log": as_uuid(p[0]), "boot": as_uuid(p[1]), "txn": p[2]}
    lists = {"Offer": ("items", Reader.offer), "Need": ("items", Reader.need), "Ack": ("outcomes", Reader.outcome)}
    if name in lists:
        field, item = lists[name]
        reader = Reader(said[field])
        said[field] = reader.items(lambda: item(reader))
    if said.get("subscriptions"):
        said["subscriptions"] = [{"text": text, "args": args.decode()} for text, args in said["subscriptions"]]
    meanings = {"part": ["provide", "hold"], "role": ["server", "device"], "reason": BYE}
    for field, value in said.items():
        if value is None:
            continue
        if field in meanings:
            said[field] = meanings[field][value]
        elif field in ("app", "log", "store", "boot", "kept_store"):
            said[field] = as_uuid(value)
        elif field in ("cursor", "upto", "reached"):
            said[field] = position(value)
        elif isinstance(value, bytes):
            said[field] = value.hex()
    return said


def archive_frame(data, offset, file, kind):
    magic, found, schema, length, checksum = struct.unpack_from("<4sHHII", data, offset)
    assert (magic, found, schema) == (b"BPAR", kind, 1), f"frame of kind {found} at {offset}"
    payload = data[offset + 16 : offset + 16 + length]
    assert crc32c(struct.pack("<QQ", file, offset) + data[offset : offset + 12] + payload) == checksum, "frame checksum"
    return Reader(payload)


def blocks(length):
    return -(-length // 512) * 512


def segment(data, number):
    if data[:4] == bytes(4):
        assert not any(data)
        return {"spare": len(data)}
    head = archive_frame(data, 0, number, 1)
    said = {"log": head.uuid(), "salt": head.u64(), "number": head.u64(), "bytes": head.u64(), "first": head.u64(),
            "previous_last": head.u64(), "previous_end": head.u64(), "boot": head.uuid(), "wall_ms": head.u64()}
    head.end(said)
    assert said["number"] == number and said["bytes"] == len(data)
    salt, offset, groups, records = struct.pack("<Q", said["salt"]), 512, [], []
    while offset < len(data) and data[offset : offset + 4] == b"BPLG":
        header = data[offset : offset + 96]
        reader = Reader(header[4:])
        version, kind, flags, zero = reader.take(4)
        log, boot = reader.uuid(), reader.uuid()
        place = [reader.u64() for _ in range(5)]
        count, length, table_sum, checksum = struct.unpack("<IIII", reader.take(16))
        assert crc32c(salt + header[:92]) == checksum, f"group checksum at {offset}"
        assert (version, zero, log, place[:2]) == (1, 0, said["log"], [number, offset])
        table = data[offset + 96 : offset + 96 + 12 * count]
        assert crc32c(table) == table_sum, "table checksum"
        at, found = offset + 96 + 12 * count, []
        for size, record_sum, flag in struct.iter_unpack("<IIB3x", table):
            found.append(data[at : at + size])
            at += size
            assert crc32c(found[-1]) == record_sum and flag == 1, "record checksum"
        assert at == offset + length and not any(data[at : offset + blocks(length)])
        group = {"kind": [0, "data", "boots", "seal", "end"][kind], "flags": flags, "boot": boot, "offset": offset,
                 "first": place[2], "durable_end": place[3], "durable_offset": place[4]}
        if kind == 1:
            records += [f"{place[2] + index}: {record.decode()}" for index, record in enumerate(found)]
        if kind == 2:
            boots = Reader(found[0])
            group["boots"] = boots.items(lambda: f"{boots.uuid()} from {boots.u64()}")
        groups.append(group)
        offset += blocks(length)
    return {"header": said, "groups": groups, "records": records}


def checkpoint(data, position):
    header = archive_frame(data, 0, position, 2)
    said = {"header": {"log": header.uuid(), "at": header.u64(), "wall_ms": header.u64()}, "chunks": []}
    offset = 512
    while struct.unpack_from("<H", data, offset + 4)[0] == 3:
        chunk = archive_frame(data, offset, position, 3).data
        said["chunks"].append(chunk.decode())
        offset += blocks(16 + len(chunk))
    footer = archive_frame(data, offset, position, 4)
    said["footer"] = {"at": footer.u64(), "chunk_count": footer.u64(), "payload_bytes": footer.u64()}
    assert offset + 512 == len(data), "the footer is the last block"
    return said


def file_number(name):
    return int(name.split("/")[1].split(".")[0], 16)


DECODERS = {
    "values": lambda name, data: {"value": Reader(data).whole(Reader.value)},
    "ids": lambda name, data: {"value": doc_id(data)},
    "documents": lambda name, data: standalone(Reader.document)(data),
    "deltas": lambda name, data: standalone_delta(data),
    "transactions": lambda name, data: Reader(data).whole(Reader.transaction),
    "checkpoint_parts": lambda name, data: Reader(data).whole(Reader.checkpoint_part),
    "remote_records": lambda name, data: Reader(data).whole(Reader.remote_record),
    "frames": lambda name, data: frame(data),
    "log": lambda name, data: segment(data, file_number(name)),
    "checkpoint": lambda name, data: checkpoint(data, file_number(name)),
}


def read_hex(path):
    """`# name`, then lines of hexadecimal digits; `zeros N` stands for so many zero bytes."""
    vectors, name = {}, None
    for line in path.read_text().splitlines():
        if line.startswith("# "):
            name = line[2:]
            vectors[name] = b""
        else:
            vectors[name] += bytes(int(line[6:])) if line.startswith("zeros ") else bytes.fromhex(line)
    return vectors


def main():
    failed, count = False, 0
    paths = sorted(FOLDER.glob("*.hex"))
    if sorted(path.stem for path in paths) != sorted(DECODERS):
        sys.exit(f"decode_vectors: the files in {FOLDER} are not those that this script knows")
    for path in paths:
        said = {}
        for name, data in read_hex(path).items():
            try:
                said[name] = DECODERS[path.stem](name, data)
                count += 1
            except Exception as error:  # every way to fail is a difference between the bytes and the document
                failed = True
                print(f"{path.name}: {name}: {type(error).__name__}: {error}")
        text, expected = json.dumps(said, indent=1, ensure_ascii=False) + "\n", path.with_suffix(".json")
        if "--bless" in sys.argv:
            expected.write_text(text)
        elif not expected.exists() or expected.read_text() != text:
            failed = True
            before = expected.read_text().splitlines() if expected.exists() else []
            print("\n".join(difflib.unified_diff(before, text.splitlines(), expected.name, "as decoded", lineterm="", n=2)))
    if failed:
        sys.exit("decode_vectors: the bytes are not what ARCHITECTURE.md and the expected content say")
    print(f"decode_vectors: {count} vectors in {len(paths)} files agree")


if __name__ == "__main__":
    main()
