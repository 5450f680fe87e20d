"""Changes to a file's content: bytes, lines, and the two headers of a safetensors file."""

import json
import random
from collections.abc import Callable

from layerlens_core.files.trace.lines import seal
from mutation.values import changed

#: Marks of byte order, ends of lines, and what JSON and CSV mean something by.
_INSERTED = (b"\xef\xbb\xbf", b"\x00", b"\r\n", b"\xff\xfe", b"\xe2\x80\xa8", b'"', b"}", b",")

Mutation = Callable[[bytes, random.Random], bytes]


def bytewise(content: bytes, pick: random.Random) -> bytes:
    """Bits and bytes, cut, put in, doubled or moved."""
    data = bytearray(content)
    for _ in range(pick.choice((1, 1, 2, 8))):
        size = len(data)
        at = pick.randint(0, size)
        length = pick.choice((1, 1, 2, 8, 64, size // 2))
        kind = pick.randrange(9)
        if kind == 0 and at < size:
            data[at] ^= 1 << pick.randrange(8)
        elif kind == 1 and at < size:
            data[at] = pick.randrange(256)
        elif kind == 2:
            del data[at : at + length]
        elif kind == 3:
            del data[at:]
        elif kind == 4:
            data[at:at] = pick.randbytes(length % 65)
        elif kind == 5:
            data[at:at] = data[at : at + length]
        elif kind == 6:
            data[at : at + length] = bytes(min(length, size - at))
        elif kind == 7:
            data[at:at] = pick.choice(_INSERTED)
        else:
            data.extend(pick.choice((b"\x00" * 64, b"\n", b"{}", bytes(content[:64]))))
    return bytes(data)


def as_json(content: bytes, pick: random.Random) -> bytes:
    """Values of a JSON document."""
    return _written(changed(json.loads(content), pick))


def as_lines(content: bytes, pick: random.Random) -> bytes:
    """Lines: taken away, doubled, moved, or with a JSON value changed."""
    lines = content.split(b"\n")
    at = pick.randrange(len(lines))
    kind = pick.randrange(6)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(at, lines[at])
    elif kind == 2:
        lines.insert(pick.randrange(len(lines)), lines.pop(at))
    elif lines[at].strip():
        lines[at] = _written(changed(json.loads(lines[at]), pick))
    return b"\n".join(lines)


def as_lines_sealed_again(content: bytes, pick: random.Random) -> bytes:
    """As `as_lines`, of a trace that is sealed anew, so that its events are looked at."""
    *lines, _seal, _end = content.split(b"\n")
    body = as_lines(b"\n".join(lines), pick) + b"\n"
    return body + seal(body).encode()


def as_safetensors(content: bytes, pick: random.Random) -> bytes:
    """The header of a safetensors file, or the header of ours inside it; the tensors follow as they were."""
    length = int.from_bytes(content[:8], "little")
    header, rest = json.loads(content[8 : 8 + length]), content[8 + length :]
    metadata = header.get("__metadata__", {})
    if metadata and pick.random() < 0.5:
        name = pick.choice(sorted(metadata))
        try:
            metadata[name] = changed(json.loads(metadata[name]), pick)
        except ValueError:
            metadata[name] = changed([metadata[name]], pick)
        text = _written(json.dumps(header))
    else:
        text = _written(changed(header, pick))
    size = pick.choice((len(text), len(text), len(text), pick.getrandbits(pick.choice((8, 32, 63)))))
    return size.to_bytes(8, "little") + text + rest


def _written(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
