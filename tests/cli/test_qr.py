"""QR codes are read by a decoder that is not ours: what a phone would see is what was meant."""

from __future__ import annotations

import re
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nmk.cli.qr import parse_qr_file, render_picture, render_terminal
from nmk.errors import BadInput

PHONE = """\
[Interface]
PrivateKey = aGVsbG8gd29ybGQsIHRoaXMgaXMgbm8gc2VjcmV0IQ8=
Address = 10.20.0.7/32, fd12:3456:789a::7/128

[Peer]
PublicKey = 4kOsTiI8vLYdZr6wU1kQbPqYhJ0m9fE7Xc2+3nG/AlY=
AllowedIPs = 10.20.0.0/16, fd12:3456:789a::/64
Endpoint = 198.51.100.7:51820
PersistentKeepalive = 25
"""
LONGEST = """\
# home: a-name-of-sixty-three-characters-that-is-as-long-as-they-may-be
[Interface]
PrivateKey = aGVsbG8gd29ybGQsIHRoaXMgaXMgbm8gc2VjcmV0IQ8=
Address = 10.200.100.107/32, fd12:3456:789a:bcde:f012:3456:789a:bcde/128
DNS = 10.200.100.101, fd12:3456:789a:bcde:f012:3456:789a:bcd1
MTU = 1420

[Peer]
PublicKey = 4kOsTiI8vLYdZr6wU1kQbPqYhJ0m9fE7Xc2+3nG/AlY=
PresharedKey = Zm9yIHRoZSBzYWtlIG9mIGxlbmd0aCwgb25lIG1vcmU=
AllowedIPs = 10.200.0.0/16, fd12:3456:789a:bcde::/64, 192.168.178.0/24, 2001:db8:1234:5678::/64
Endpoint = [2001:db8:1234:5678:9abc:def0:1234:5678]:51820
PersistentKeepalive = 25
"""
TEXTS = pytest.mark.parametrize("text", [PHONE, LONGEST], ids=["phone", "longest"])
BLACK, WHITE = 0, 255
BLOCKS = {" ": (False, False), "▀": (True, False), "▄": (False, True), "█": (True, True)}
"""Which half of a cell has ink, the upper and the lower one."""
Picture = list[bytes]
"""Rows of grey pixels."""


def decode(image: Path) -> str:
    options = ["--quiet", "--nodbus", "--raw", "-Sbinary", "-Sdisable", "-Sqrcode.enable"]
    done = subprocess.run(["zbarimg", *options, image], capture_output=True, check=True)
    return done.stdout.decode()


def decode_picture(picture: Picture, scratch: Path) -> str:
    image = scratch / "picture.pgm"
    image.write_bytes(b"P5 %d %d 255\n" % (len(picture[0]), len(picture)) + b"".join(picture))
    return decode(image)


def photograph(text: str, foreground: int, background: int) -> Picture:
    """What a terminal with these colours of its own shows, and some of it around."""
    wide, high, around = 8, 16, 32
    rows = draw(text, foreground, background)
    side = bytes([background]) * around
    lines = [
        side + b"".join(bytes([shade]) * wide for shade in row) + side
        for row in rows
        for _ in range(high // 2)
    ]
    margin = [bytes([background]) * len(lines[0])] * around
    return [*margin, *lines, *margin]


def draw(text: str, foreground: int, background: int) -> list[list[int]]:
    """The shades of all half cells. Anything but half blocks and known colours is refused."""
    halves: list[list[int]] = []
    for line in text.split("\n"):
        ink, paper = foreground, background
        upper: list[int] = []
        lower: list[int] = []
        for part in re.findall(r"\x1b\[[0-9;]*m|.", line):
            if len(part) > 1:
                ink, paper = colours(part[2:-1], (foreground, background))
            else:
                above, below = BLOCKS[part]
                upper.append(ink if above else paper)
                lower.append(ink if below else paper)
        assert (ink, paper) == (foreground, background), "a line leaves its colours behind"
        halves += [upper, lower]
    assert len({len(row) for row in halves}) == 1
    return halves


def colours(codes: str, of_terminal: tuple[int, int]) -> tuple[int, int]:
    """The shades that one SGR sequence sets: both at once, or those of the terminal."""
    if codes == "0":
        return of_terminal
    both = re.fullmatch(r"38;5;(\d+);48;5;(\d+)", codes)
    assert both, f"unknown escape code {codes}"
    return shade(int(both[1])), shade(int(both[2]))


def shade(index: int) -> int:
    """Of xterm's 256 colours the greys of the cube and of the ramp; 0-15 are the theme's."""
    if 232 <= index <= 255:
        return 8 + 10 * (index - 232)
    level, rest = divmod(index - 16, 43)
    assert rest == 0, f"colour {index} is no fixed grey"
    return (0, 95, 135, 175, 215, 255)[level]


def rasterise(svg: bytes) -> Picture:
    """The SVG's pixels: horizontal strokes of one unit on a rectangle, in a scaled group."""
    space = "{http://www.w3.org/2000/svg}"
    root = ET.fromstring(svg)
    size = int(root.attrib["width"])
    assert (root.tag, root.attrib["height"]) == (f"{space}svg", str(size))
    (group,) = root
    scaled = re.fullmatch(r"scale\((\d+)\)", group.attrib["transform"])
    assert scaled
    scale = int(scaled[1])
    side = size // scale
    paper, strokes = group
    assert (paper.tag, strokes.tag) == (f"{space}path", f"{space}path")
    assert paper.attrib == {"fill": "#fff", "d": f"M0 0h{side}v{side}h-{side}z"}
    assert strokes.attrib["stroke"] == "#000"
    modules = [bytearray([WHITE] * side) for _ in range(side)]
    x, y = 0, 0.0
    path = strokes.attrib["d"]
    steps = re.findall(r"([Mm])(-?\d+) (-?[\d.]+)|h(\d+)", path)
    assert "".join(f"{c}{a} {b}" if c else f"h{n}" for c, a, b, n in steps) == path
    for move, right, down, length in steps:
        if move:
            x, y = (int(right), float(down)) if move == "M" else (x + int(right), y + float(down))
        else:
            modules[int(y)][x : x + int(length)] = bytes([BLACK] * int(length))
            x += int(length)
    return [
        b"".join(bytes([module]) * scale for module in row) for row in modules for _ in range(scale)
    ]


@TEXTS
@pytest.mark.parametrize(
    ("foreground", "background"), [(WHITE, BLACK), (BLACK, WHITE)], ids=["dark", "light"]
)
def test_a_terminal_shows_the_text(
    text: str, foreground: int, background: int, tmp_path: Path
) -> None:
    seen = photograph(render_terminal(text), foreground, background)
    assert decode_picture(seen, tmp_path) == text


def test_it_is_the_same_on_every_background() -> None:
    drawn = render_terminal(PHONE)
    assert draw(drawn, WHITE, BLACK) == draw(drawn, BLACK, WHITE)


def test_a_config_fits_in_80_columns() -> None:
    drawn = draw(render_terminal(PHONE), WHITE, BLACK)
    assert (len(drawn[0]), len(drawn) // 2) == (65, 33)
    assert len(draw(render_terminal("x" * 450), WHITE, BLACK)[0]) <= 80


@TEXTS
def test_a_png_file_holds_the_text(text: str, tmp_path: Path) -> None:
    (tmp_path / "phone.png").write_bytes(render_picture(Path("phone.png"), text))
    assert decode(tmp_path / "phone.png") == text


@TEXTS
def test_an_svg_file_holds_the_text(text: str, tmp_path: Path) -> None:
    picture = rasterise(render_picture(Path("phone.SVG"), text))
    assert decode_picture(picture, tmp_path) == text


@settings(max_examples=15, deadline=None)
@given(text=st.text(st.characters(codec="utf-8"), min_size=1, max_size=200))
@example(text="\u20820")  # UTF-8 whose bytes look like Shift JIS
def test_any_text_comes_back_as_utf_8(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    scratch = tmp_path_factory.mktemp("any")
    assert decode_picture(photograph(render_terminal(text), WHITE, BLACK), scratch) == text
    (scratch / "any.png").write_bytes(render_picture(Path("any.png"), text))
    assert decode(scratch / "any.png") == text


@pytest.mark.parametrize("name", ["phone.jpg", "phone", ".png", "png", "phone.png.conf", ""])
def test_other_endings_are_refused(name: str) -> None:
    for refuse in (parse_qr_file, lambda name: render_picture(Path(name), PHONE)):
        with pytest.raises(BadInput) as refused:
            refuse(name)
        assert repr(name or ".") in refused.value.message
        assert ".png or .svg" in refused.value.hint


def test_a_missing_directory_is_told(tmp_path: Path) -> None:
    missing = tmp_path / "gone" / "phone.png"
    with pytest.raises(BadInput, match=re.escape(f"'{missing.parent}' is no directory")):
        parse_qr_file(str(missing))
    missing.parent.mkdir()
    assert parse_qr_file(str(missing)) == missing


def test_a_text_too_long_is_refused_untold() -> None:
    text = "PrivateKey = " + "x" * 3000
    for refuse in (render_terminal, lambda text: render_picture(Path("phone.png"), text)):
        with pytest.raises(BadInput, match="a text of 3013 bytes is too long") as refused:
            refuse(text)
        assert "PrivateKey" not in str(refused.value) + refused.value.hint
