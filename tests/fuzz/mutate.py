"""Mutations of metadata that know what it is made of: tags, keys, numbers, references, encodings."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import Any

NUMBERS = (
    "1e400", "-1e400", "-0", "0", "nan", "NaN", "-nan", "inf", "-Infinity", "1e-320", "9" * 30, "9" * 5000, "0x10",
    "1_000", "", " ", "1,5", "1e", "--1", "²", "٣", "1e308", "-1000", "65535", "0.0000001", "1 2", "True", "null",
)  # fmt: skip
"""Numbers that no product holds, and texts where numbers stand."""

PLACES = (
    "/etc/passwd", "../../../../../../etc/passwd", "file:///etc/passwd", "file:/etc/passwd", "FILE:///etc/passwd",
    "file://localhost/etc/passwd", "/vsizip//etc/passwd", "/vsisubfile/0_10,/etc/passwd", "/vsicurl/file:///etc/passwd",
    "/vsistdin/", "/vsigzip//etc/passwd", "/vsitar//etc/passwd", "/vsimem/x", "zip:///etc/passwd", "tar:///etc/passwd",
    "gzip:///etc/passwd", "zip+file:///etc/passwd", "vrt:///etc/passwd", "GTIFF_DIR:1:/etc/passwd", "\\\\host\\share",
    "//etc/passwd", "./a/../../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "..", ".", "/", "a\0b", "http://[", "C:\\x",
    "@OUTSIDE@/B04.tif", "../outside/B04.tif", "../../outside/B04.tif", "file://@OUTSIDE@/B04.tif",
    "<VRTDataset rasterXSize='1' rasterYSize='1'/>", "item.json", "outside/B04.tif", "~/x.tif", "/dev/zero", "a" * 5000,
    "https://user@[::1]:99999/x.tif", "s3://", "://", "data:,x", "\x1b[2J", "\ud800", "/proc/self/environ",
)  # fmt: skip
"""References that lead where a product has nothing to seek."""

ENCODINGS = ("utf-16", "utf-16-be", "utf-32", "utf-8-sig", "latin-1", "utf-7", "cp037", "shift_jis")
DECLARED = ("utf-16", "utf-7", "foo", "idna", "hex", "rot13", "undefined", "cp037", "big5", "punycode", "UTF-32", "")

_PIECES = (b"\0", b"\0" * 100, b"\xff\xfe", b"\xef\xbb\xbf", b"\x1b[2J", b"\r", b"&#0;", b"&amp;", b" " * 5000)

# Possessive, or a name of thousands of letters would take seconds.
_TAG = re.compile(rb"<([A-Za-z][\w:.-]*+)([^<>]*+)>")
_TEXT = re.compile(rb">([^<>]+)<")
_VALUE = re.compile(rb"=\s*\"?([^\"\s<>]+)")
_LEAF = re.compile(rb"<([A-Za-z][\w:.-]*+)[^<>]*+>[^<>]*+</\1>")

Mutation = Callable[[bytes, random.Random], bytes]


def mutate(data: bytes, rng: random.Random, most: int = 1 << 20) -> bytes:
    """Change some bytes, elements, keys or values; one to four times.

    Args:
        data: text of XML, JSON or ODL, whole or broken.
        rng: source of chance; the same state gives the same result.
        most: bytes of the longest result.
    """
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        if _is_json(data) and rng.random() < 0.75:
            data = _json(data, rng)
        elif b"<" in data and rng.random() < 0.75:
            data = rng.choice(_XML)(data, rng)
        else:
            data = rng.choice(_ANY)(data, rng)
        data = data[:most]
    return data


# Any bytes --------------------------------------------------------------------------------------------------------


def _flip(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randint(1, 8) if out else 0):
        out[rng.randrange(len(out))] = rng.randrange(256)
    return bytes(out)


def _truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randint(0, len(data))]


def _insert(data: bytes, rng: random.Random) -> bytes:
    place = rng.randint(0, len(data))
    return data[:place] + rng.choice(_PIECES) + data[place:]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    begin = rng.randint(0, len(data))
    end = min(len(data), begin + rng.choice((10, 100, 1000)))
    return data[:end] + data[begin:end] * rng.choice((1, 1, 3, 50)) + data[end:]


def _cut(data: bytes, rng: random.Random) -> bytes:
    begin = rng.randint(0, len(data))
    return data[:begin] + data[begin + rng.choice((1, 10, 100, 1000)) :]


def _encode(data: bytes, rng: random.Random) -> bytes:
    return data.decode("utf-8", errors="replace").encode(rng.choice(ENCODINGS), errors="replace")


def _value(data: bytes, rng: random.Random) -> bytes:
    found = list(_VALUE.finditer(data))
    if not found:
        return data
    hit = rng.choice(found)
    return data[: hit.start(1)] + _word(rng) + data[hit.end(1) :]


def _line(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    if len(lines) < 2:
        return data
    place = rng.randrange(len(lines))
    how = rng.randrange(4)
    if how == 0:
        del lines[place]
    elif how == 1:
        lines.insert(rng.randrange(len(lines)), lines[place])
    elif how == 2:
        lines[place] = lines[place].rstrip() + b" " * 20000 + b"x\n"
    else:
        lines[place] = lines[place].replace(b"=", rng.choice((b"", b"==", b" = = ", b"\t=\t")))
    return b"".join(lines)


def _word(rng: random.Random) -> bytes:
    return rng.choice(rng.choice((NUMBERS, NUMBERS, PLACES))).encode("utf-8", errors="replace")


# XML --------------------------------------------------------------------------------------------------------------


def _text(data: bytes, rng: random.Random) -> bytes:
    found = list(_TEXT.finditer(data))
    if not found:
        return data
    hit = rng.choice(found)
    word = _word(rng).replace(b"<", b"&lt;")
    return data[: hit.start(1)] + word + data[hit.end(1) :]


def _rename(data: bytes, rng: random.Random) -> bytes:
    found = list(_TAG.finditer(data))
    if not found:
        return data
    old, new = rng.choice(found).group(1), rng.choice(found).group(1)
    new = rng.choice((new, old + b"x", b"a:" + old, b"A" * 3000))
    return data.replace(b"<" + old, b"<" + new, 100).replace(b"</" + old, b"</" + new, 100)


def _drop_element(data: bytes, rng: random.Random) -> bytes:
    found = list(_LEAF.finditer(data))
    if not found:
        return data
    hit = rng.choice(found)
    return data[: hit.start()] + data[hit.end() :]


def _double_element(data: bytes, rng: random.Random) -> bytes:
    found = list(_LEAF.finditer(data))
    if not found:
        return data
    hit = rng.choice(found)
    return data[: hit.end()] + hit.group(0) * rng.choice((1, 2, 300)) + data[hit.end() :]


def _nest(data: bytes, rng: random.Random) -> bytes:
    found = list(_LEAF.finditer(data))
    depth = rng.choice((10, 1000, 30000))
    if not found:
        return b"<a>" * depth + b"</a>" * depth
    hit = rng.choice(found)
    return data[: hit.start()] + b"<a>" * depth + hit.group(0) + b"</a>" * depth + data[hit.end() :]


def _attribute(data: bytes, rng: random.Random) -> bytes:
    found = [hit for hit in _TAG.finditer(data) if b"=" in hit.group(2)]
    if not found:
        return data
    hit = rng.choice(found)
    word = _word(rng).replace(b"<", b"&lt;").replace(b'"', b"")
    changed = re.sub(rb'="[^"]*"', lambda _: b'="' + word + b'"', hit.group(2), count=1)
    return data[: hit.start(2)] + changed + data[hit.end(2) :]


def _declare(data: bytes, rng: random.Random) -> bytes:
    body = re.sub(rb"^\s*<\?xml[^>]*\?>", b"", data)
    head = rng.choice(
        (
            f'<?xml version="1.0" encoding="{rng.choice(DECLARED)}"?>',
            '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>',
            '<!DOCTYPE a SYSTEM "file:///etc/passwd">',
            '<!DOCTYPE a [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]>',
            '<?xml version="9.9"?>',
            "<!-- -->" * 50,
        )
    )
    return head.encode() + body


_ANY: tuple[Mutation, ...] = (_flip, _truncate, _insert, _repeat, _cut, _encode, _value, _value, _line, _line)
_XML: tuple[Mutation, ...] = (
    _text, _text, _text, _rename, _drop_element, _double_element, _nest, _attribute, _attribute, _declare,
)  # fmt: skip


# JSON -------------------------------------------------------------------------------------------------------------


def _is_json(data: bytes) -> bool:
    return data[:1] in (b"{", b"[") and len(data) < 200_000


def _json(data: bytes, rng: random.Random) -> bytes:
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return rng.choice(_ANY)(data, rng)
    places = list(_places(tree))
    if not places:
        return data
    holder, key = rng.choice(places)
    how = rng.randrange(6)
    if how == 0:
        del holder[key]
    elif how == 1 and isinstance(holder, dict):
        other = rng.choice((f"{key}x", str(rng.choice(places)[1]), "", "A" * 2000, "\ud800", "a\0"))
        holder[other] = holder.pop(key)
    elif how in (2, 3):
        other, name = rng.choice(places)
        holder[key] = other[name]
    elif how == 4 and isinstance(holder, list):
        holder.extend([holder[key]] * rng.choice((1, 3, 2000)))
    else:
        holder[key] = _strange(rng)
    try:
        text = json.dumps(tree)
    except (ValueError, RecursionError):  # a part was put below itself
        return data
    if rng.random() < 0.1:
        text = text.replace("0", rng.choice(("1e400", "NaN", "-Infinity", "9" * 5000, "0")), 1)
    return text.encode("utf-8", errors="surrogatepass")


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every holder with every key, to some depth."""
    out: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting and len(out) < 5000:
        holder = waiting.pop()
        if isinstance(holder, (dict, list)):
            for key in _keys(holder):
                out.append((holder, key))
                waiting.append(holder[key])
    return out


def _keys(holder: Any) -> list[Any]:
    return list(holder) if isinstance(holder, dict) else list(range(len(holder)))


def _strange(rng: random.Random) -> Any:
    """A value of any type."""
    nested: Any = 1
    for _ in range(rng.choice((1, 50, 400))):
        nested = [nested] if rng.random() < 0.5 else {"a": nested}
    return rng.choice(
        (
            None, True, False, 0, -1, -0.0, 1e308, float("inf"), float("nan"), 10**400, -(10**30), 1e-300, "", "x", [],
            {}, [[]], [None], [{}], [1, "a"], {"a": 1}, [{}] * 3000, nested, rng.choice(NUMBERS), rng.choice(PLACES),
            rng.choice(PLACES), rng.choice(PLACES), "B04", "red", 2000, -1000,
        )
    )  # fmt: skip
