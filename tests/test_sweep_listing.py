"""A data set's images: every one in a fixed order, nothing extracted, nothing passed over in silence."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fidelity.errors import BadInput
from fidelity.models.input_contract import InputContract
from fidelity.sweeping.decoding import decode_image
from fidelity.sweeping.items import read_item
from fidelity.sweeping.listing import list_items, root_of
from fidelity.sweeping.plan import write_plan

CONTRACT = InputContract(shape=(1, 3, 4, 4), mean=(0.5,) * 3, std=(0.5,) * 3)


def png(value: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.full((5, 6, 3), value, dtype=np.uint8)).save(content, "PNG")
    return content.getvalue()


def info(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member


def shard(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return path


def plain(path: Path, values: list[int]) -> Path:
    return shard(path, [(info(f"{value}.png", len(png(value))), png(value)) for value in values])


def test_a_folder_is_listed_by_name_and_a_shard_by_member(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b/2.png").write_bytes(png(2))
    (tmp_path / "b/1.JPG").write_bytes(png(1))
    (tmp_path / "b/1.txt").write_text("a label")
    (tmp_path / ".hidden.png").write_bytes(b"")
    plain(tmp_path / "a.tar", [9, 3])
    items = list(list_items(tmp_path))
    assert [item.name for item in items] == ["a.tar/9.png", "a.tar/3.png", "b/1.JPG", "b/2.png"]
    assert [item.number for item in items] == [0, 1, 2, 3]
    assert [read_item(root_of(tmp_path), item) for item in items] == [png(9), png(3), png(1), png(2)]


def test_one_tar_is_a_data_set(tmp_path: Path) -> None:
    path = plain(tmp_path / "a.tar", [1, 2])
    assert [read_item(root_of(path), item) for item in list_items(path)] == [png(1), png(2)]


def test_hostile_members_are_labels_and_links_are_refused(tmp_path: Path) -> None:
    names = ["../../out.png", "/etc/out.png", "a\x1b[31m\u202e.png", "x" * 5000 + ".png"]
    members = [(info(name, len(png(1))), png(1)) for name in names]
    link, hard, hole = info("link.png", 0, tarfile.SYMTYPE), info("hard.png", 0, tarfile.LNKTYPE), info("e.png")
    link.linkname = hard.linkname = "/etc/passwd"
    shard(
        tmp_path / "a.tar",
        [*members, (link, b""), (hard, b""), (info("pipe.png", 0, tarfile.FIFOTYPE), b""), (hole, b"")],
    )
    items = list(list_items(tmp_path))
    assert {item.file for item in items} == {"a.tar"}
    assert [item.refused is None for item in items] == [True] * 4 + [False] * 4
    assert "\x1b" not in items[2].name
    assert "\u202e" not in items[2].name
    assert len(items[3].name) < 400
    assert [read_item(tmp_path, item) for item in items[:4]] == [png(1)] * 4
    assert [path.name for path in tmp_path.rglob("*")] == ["a.tar"]


def test_a_member_too_large_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fidelity.sweeping.listing.LARGEST_IMAGE", len(png(1)) - 1)
    plain(tmp_path / "a.tar", [1])
    (item,) = list_items(tmp_path)
    assert "larger" in (item.refused or "")


def _damaged(content: bytes) -> dict[str, bytes]:
    second = content.index(b"2.png")
    return {
        "cut in the data": content[: second + 600],
        "no end": content[: second + 512 + 512 * (-(-len(png(2)) // 512))],
        "damaged header": content[:second] + b"!!!!!!!!" + content[second + 8 :],
        "two archives in one": content + content,
        "no tar": b"PK" + content[2:],
        "nothing": b"",
        "long header": _long_header(),
    }


def _long_header() -> bytes:
    header = info("././@LongLink", 2 << 20, tarfile.GNUTYPE_LONGNAME).tobuf(tarfile.GNU_FORMAT)
    return header + bytes(2 << 20) + bytes(1024)


@pytest.mark.parametrize("how", list(_damaged(b"2.png")))
def test_a_damaged_shard_is_an_error_and_not_its_end(tmp_path: Path, how: str) -> None:
    path = plain(tmp_path / "a.tar", [1, 2])
    path.write_bytes(_damaged(path.read_bytes())[how])
    with pytest.raises(BadInput, match=r"a\.tar"):
        list(list_items(tmp_path))


def test_links_and_packed_shards_of_a_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    outside.write_bytes(png(1))
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.png").symlink_to(outside)
    (item,) = list_items(data)
    assert "out of the folder" in (item.refused or "")
    (data / "b").symlink_to(tmp_path)
    with pytest.raises(BadInput, match="link to a folder"):
        list(list_items(data))
    (data / "b").unlink()
    (data / "c.tar.gz").write_bytes(b"")
    with pytest.raises(BadInput, match="packed"):
        list(list_items(data))


@pytest.mark.parametrize("name", ["missing", "a.png"])
def test_what_is_no_data_set(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    with pytest.raises(BadInput, match="expected a folder"):
        list(list_items(tmp_path / name))


def test_a_file_that_changed_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    (item,) = list_items(tmp_path)
    (tmp_path / "a.png").write_bytes(png(1) + b"x")
    with pytest.raises(BadInput, match="changed"):
        read_item(tmp_path, item)


def test_the_plan_numbers_chunks_and_spreads_the_gallery(tmp_path: Path) -> None:
    plain(tmp_path / "a.tar", list(range(10)))
    plan = write_plan(list_items(tmp_path), 4, tmp_path / "plan.jsonl")
    assert (plan.images, plan.chunks) == (10, 3)
    chunks = list(plan.read())
    assert [[item.number for item in chunk.items] for chunk, _ in chunks] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert len({digest for _, digest in chunks}) == 3
    assert [item.number for item in plan.spread(5)] == [0, 2, 4, 6, 8]


def test_an_empty_data_set_is_no_pass(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(BadInput, match="no image"):
        write_plan(list_items(tmp_path / "data"), 4, tmp_path / "plan.jsonl")


def _bomb() -> bytes:
    content = bytearray(png(1))
    content[16:24] = (60_000).to_bytes(4, "big") * 2  # the header's width and height
    return bytes(content)


@pytest.mark.parametrize(
    "content", [b"", b"no image", png(1)[:50], _bomb(), b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]
)
def test_what_cannot_be_decoded_has_a_reason(content: bytes) -> None:
    with pytest.raises(BadInput, match="not an image that can be read") as first:
        decode_image(content, CONTRACT)
    with pytest.raises(BadInput) as second:
        decode_image(content, CONTRACT)
    assert str(first.value) == str(second.value)


def test_an_image_is_decoded_under_the_contract() -> None:
    assert decode_image(png(255), CONTRACT).tolist() == np.ones((1, 3, 4, 4)).tolist()
