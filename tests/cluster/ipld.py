"""CIDs, dag-pb nodes and CARs, read by code that shares nothing with the one that wrote them."""
import base64
import hashlib


def decode(cid):
    """Codec and SHA-256 of a CIDv1 in base32."""
    text = cid[1:].upper()
    raw = base64.b32decode(text + "=" * (-len(text) % 8))
    assert cid[0] == "b" and len(raw) == 36 and raw[0] == 1 and raw[2:4] == b"\x12\x20", cid
    return raw[1], raw[4:]


def encode(raw):
    return "b" + base64.b32encode(raw).decode().lower().rstrip("=")


def is_raw(cid):
    return decode(cid)[0] == 0x55


def matches(cid, block):
    return hashlib.sha256(block).digest() == decode(cid)[1]


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at


def fields(message):
    """Number and content of each field of a protobuf."""
    at = 0
    while at < len(message):
        key, at = varint(message, at)
        if key & 7 == 0:
            value, at = varint(message, at)
        else:
            assert key & 7 == 2, key
            length, at = varint(message, at)
            value, at = message[at:at + length], at + length
        yield key >> 3, value


def links(node):
    return [encode(dict(fields(link))[1]) for number, link in fields(node) if number == 2]


def number(n):
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + number(n >> 7)


def node(links):
    """A node of a file: links are (CID as bytes, bytes of the file below, bytes of the tree below)."""
    out = b""
    for cid, _, tree_bytes in links:
        link = b"\x0a\x24" + cid + b"\x12\x00\x18" + number(tree_bytes)
        out += b"\x12" + number(len(link)) + link
    sizes = [file_bytes for _, file_bytes, _ in links]
    data = b"\x08\x02\x18" + number(sum(sizes)) + b"".join(b"\x20" + number(size) for size in sizes)
    return out + b"\x0a" + number(len(data)) + data


def cid_of(codec, block):
    return bytes([1, codec, 0x12, 0x20]) + hashlib.sha256(block).digest()


def write_car(root, blocks):
    header = b"\xa2\x65roots\x81\xd8\x2a\x58\x25\x00" + root + b"\x67version\x01"
    return number(len(header)) + header + b"".join(number(36 + len(block)) + cid + block for cid, block in blocks)


def read_car(data):
    """Roots and (CID, block) in order; fails where the CAR is cut off."""
    length, at = varint(data, 0)
    header = data[at:at + length]
    assert header[:8] == b"\xa2\x65roots\x81"[:8] and header.endswith(b"\x67version\x01"), header
    roots, blocks, at = [encode(header[13:49])], [], at + length
    while at < len(data):
        length, at = varint(data, at)
        assert at + length <= len(data), "cut off"
        blocks.append((encode(data[at:at + 36]), data[at + 36:at + length]))
        at += length
    return roots, blocks
