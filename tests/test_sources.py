"""Where data comes from: folders in three formats, archives, addresses; each arrives whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import stat
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from yolo_folder import CLASSES, folder_dataset, write_data_file, write_folder, write_image, write_label

from ethos.data import fetch as fetch_module
from ethos.data.guard import run_checks
from ethos.data.labels import read_labels
from ethos.data.manifest import ImageRow, read_manifest
from ethos.data.source import materialise
from ethos.errors import DataError
from ethos.files import read_json
from ethos.specs import ArchiveLimits, ArchiveSource, Dataset, FolderSource, Split, UrlSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def brought(source: Any, into: Path, method: str = "keep") -> list[ImageRow]:
    """Materialise a data set of the two classes and return its images."""
    materialise(Dataset(name="small", source=source, classes=CLASSES, split=Split(method=method)), into)
    return read_manifest(into)


def sides(rows: list[ImageRow]) -> list[str]:
    return [row.split for row in sorted(rows, key=lambda row: row.path.name)]


# --- YOLO: lists and a test side -------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "./"], ids=["plain", "dotted"])
def test_sides_from_text_files(tmp_path: Path, prefix: str) -> None:
    root = write_folder(tmp_path / "source", layout="{kind}/{side}")
    for name, folder in (("train", "train"), ("val", "valid")):
        files = sorted((root / "images" / folder).iterdir())
        lines = "".join(f"{prefix}images/{folder}/{file.name}\r\n" for file in files)
        (root / f"{name}.txt").write_text(lines, encoding="utf-8")
    write_data_file(root, train="train.txt", val="val.txt", names=list(CLASSES))
    rows = brought(FolderSource(type="folder", root=str(root)), tmp_path / "dataset")
    assert sides(rows) == ["train"] * 16 + ["val"] * 4
    assert all(row.boxes == 1 for row in rows)


@pytest.mark.parametrize(
    "line", ["images/train/nobody.jpg", "../outside.jpg", "/etc/hostname"], ids=["missing", "outside", "absolute"]
)
def test_a_list_names_images_inside_alone(tmp_path: Path, line: str) -> None:
    root = write_folder(tmp_path / "source", layout="{kind}/{side}")
    write_image(tmp_path / "outside.jpg", 1)
    (root / "train.txt").write_text(f"images/train/train000.jpg\n{line}\n")
    write_data_file(root, train="train.txt", val="images/valid", names=list(CLASSES))
    with pytest.raises(DataError) as caught:
        brought(FolderSource(type="folder", root=str(root)), tmp_path / "dataset")
    assert caught.value.message == f"{root}/train.txt:2: no image '{line}' inside {root}"


def with_test_side(root: Path) -> Path:
    write_folder(root)
    for number in range(3):
        write_image(root / "test/images" / f"test{number}.jpg", 900 + number)
        write_label(root / "test/labels" / f"test{number}.txt", "1 0.5 0.5 0.5 0.5")
    data = (root / "data.yaml").read_text()
    (root / "data.yaml").write_text(data + "test: ../test/images\n")
    return root


@pytest.mark.parametrize("method", ["keep", "grouped"])
def test_a_given_test_side_stays_apart(tmp_path: Path, method: str) -> None:
    root = with_test_side(tmp_path / "source")
    rows = brought(FolderSource(type="folder", root=str(root)), tmp_path / "dataset", method)
    assert {row.path.name for row in rows if row.split == "test"} == {"test0.jpg", "test1.jpg", "test2.jpg"}
    assert all(row.path.parent == tmp_path / "dataset/images/test" for row in rows if row.split == "test")
    assert sum(row.split == "val" for row in rows) == 4
    record = read_json(tmp_path / "dataset/dataset.json")
    assert record["images"] == {"train": 16, "val": 4, "test": 3}
    assert "test: images/test" in (tmp_path / "dataset/data.yaml").read_text()


def test_a_test_folder_that_is_not_there_is_no_test_side(tmp_path: Path) -> None:
    root = with_test_side(tmp_path / "source")
    shutil.rmtree(root / "test")
    brought(FolderSource(type="folder", root=str(root)), tmp_path / "dataset")
    assert read_json(tmp_path / "dataset/dataset.json")["images"] == {"train": 16, "val": 4}


# --- COCO ------------------------------------------------------------------------------------------------------------


def write_coco(path: Path, place: Path, stems: list[str], start: int = 1, **changes: Any) -> None:
    """Write images of 64x48 pixels with one box of 16x24 pixels each, and their JSON file."""
    document: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 0, "name": "signs"}]}
    document["categories"] += [{"id": 7, "name": "Yield"}, {"id": 3, "name": "Stop"}]
    for number, stem in enumerate(stems, start=start):
        write_image(place / f"{stem}.jpg", hash_seed(stem))
        document["images"].append({"id": number, "file_name": f"{stem}.jpg", "width": 64, "height": 48})
        kind = 3 if number % 2 else 7
        box = {"id": number, "image_id": number, "category_id": kind, "bbox": [24, 12, 16, 24], "iscrowd": 0}
        document["annotations"].append(box)
    document |= changes
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def hash_seed(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)


STEMS = {"train": [f"a{number}" for number in range(8)], "val": ["b0", "b1"]}


def coco_as_published(root: Path) -> None:
    for side, stems in STEMS.items():
        write_coco(root / f"annotations/instances_{side}2017.json", root / f"{side}2017", stems)
    (root / "annotations/captions_val2017.json").write_text('{"images": [], "annotations": [], "categories": []}')


def coco_as_roboflow(root: Path) -> None:
    for side, folder in (("train", "train"), ("val", "valid")):
        write_coco(root / folder / "_annotations.coco.json", root / folder, STEMS[side])


@pytest.mark.parametrize("write", [coco_as_published, coco_as_roboflow], ids=["as published", "as Roboflow writes it"])
def test_coco(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path / "source")
    source = FolderSource(type="folder", root=str(tmp_path / "source"), format="coco")
    rows = brought(source, tmp_path / "dataset")
    assert sides(rows) == ["train"] * 8 + ["val"] * 2
    found = {row.path.stem: read_labels(row.label).tolist() for row in rows}
    assert found["a0"] == [[0.0, 0.5, 0.5, 0.25, 0.5]]
    assert found["a1"] == [[1.0, 0.5, 0.5, 0.25, 0.5]]


def test_coco_crowds_are_left_out_and_odd_boxes_told(tmp_path: Path) -> None:
    root = tmp_path / "source"
    coco_as_roboflow(root)
    path = root / "train/_annotations.coco.json"
    document = json.loads(path.read_text())
    document["annotations"][0]["iscrowd"] = 1
    document["annotations"][1]["bbox"] = [1, 2, 3]
    document["images"][2]["width"] = 128
    path.write_text(json.dumps(document))
    source = FolderSource(type="folder", root=str(root), format="coco")
    dataset = Dataset(name="small", source=source, classes=CLASSES, split=Split(method="keep"))
    materialise(dataset, tmp_path / "dataset")
    boxes = {row.path.stem: row.boxes for row in read_manifest(tmp_path / "dataset")}
    assert (boxes["a0"], boxes["a1"], boxes["a2"]) == (0, 0, 1)
    report = run_checks(tmp_path / "dataset", dataset)
    examples = {check["name"]: check["examples"] for check in report["checks"] if not check["ok"]}
    assert examples["label_lines"] == ["images/train/a1.jpg"]
    assert examples["label_size"] == ["images/train/a2.jpg"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"categories": [{"id": 3, "name": "Stop"}, {"id": 7, "name": "Ahead"}]}, "class 'Ahead' is none of the spec"),
        ({"images": [{"id": 1}]}, "not COCO annotations: KeyError: 'file_name'"),
        ({"annotations": [{"image_id": 1}]}, "not COCO annotations: KeyError: 'category_id'"),
        ({"images": [{"id": 1, "file_name": "../../x.jpg"}]}, "1 images are not inside"),
        ({"images": 5}, "not COCO annotations: TypeError"),
    ],
    ids=["unknown class", "no file name", "no category", "image outside", "no list"],
)
def test_bad_coco(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_image(tmp_path / "x.jpg", 0)
    write_coco(tmp_path / "source/deep/train.json", tmp_path / "source/deep", STEMS["train"], **changes)
    with pytest.raises(DataError) as caught:
        brought(FolderSource(type="folder", root=str(tmp_path / "source"), format="coco"), tmp_path / "dataset")
    assert caught.value.message.startswith(f"{tmp_path}/source/deep/train.json: {message}")


def test_coco_folder_without_annotations(tmp_path: Path) -> None:
    write_image(tmp_path / "source/a.jpg", 0)
    (tmp_path / "source/other.json").write_text("[]")
    with pytest.raises(DataError, match="no JSON file with images, annotations, categories"):
        brought(FolderSource(type="folder", root=str(tmp_path / "source"), format="coco"), tmp_path / "dataset")


# --- Pascal VOC ------------------------------------------------------------------------------------------------------

VOC = """<annotation><filename>{stem}.jpg</filename><size><width>64</width><height>48</height></size>
<object><name>{kind}</name><bndbox><xmin>{left}</xmin><ymin>13</ymin><xmax>40</xmax><ymax>36</ymax></bndbox></object>
</annotation>"""


def write_voc(images: Path, labels: Path, stems: list[str], kind: str = "Yield", left: str = "25") -> None:
    labels.mkdir(parents=True, exist_ok=True)
    for stem in stems:
        write_image(images / f"{stem}.jpg", hash_seed(stem))
        (labels / f"{stem}.xml").write_text(VOC.format(stem=stem, kind=kind, left=left))


def voc_as_published(root: Path) -> None:
    write_voc(root / "JPEGImages", root / "Annotations", [*STEMS["train"], *STEMS["val"]])
    (root / "ImageSets/Main").mkdir(parents=True)
    for side, stems in STEMS.items():
        (root / f"ImageSets/Main/{side}.txt").write_text("\n".join(stems))
    (root / "ImageSets/Main/trainval.txt").write_text("\n".join([*STEMS["train"], *STEMS["val"]]))


def voc_as_roboflow(root: Path) -> None:
    for side, folder in (("train", "train"), ("val", "valid")):
        write_voc(root / folder, root / folder, STEMS[side])


@pytest.mark.parametrize("write", [voc_as_published, voc_as_roboflow], ids=["as published", "as Roboflow writes it"])
def test_voc(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path / "source")
    rows = brought(FolderSource(type="folder", root=str(tmp_path / "source"), format="voc"), tmp_path / "dataset")
    assert sides(rows) == ["train"] * 8 + ["val"] * 2
    assert all(read_labels(row.label).tolist() == [[1.0, 0.5, 0.5, 0.25, 0.5]] for row in rows)


BOMB = '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;">]><annotation><object><name>&y;</name></object></annotation>'
LEAK = (
    '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><object><name>&x;</name></object></annotation>'
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation>", "cannot be read: no element found"),
        (BOMB, "cannot be read: EntitiesForbidden"),
        (LEAK, "cannot be read: EntitiesForbidden"),
        (VOC.format(stem="a0", kind="Ahead", left="1"), "class 'Ahead' is none of the spec's classes"),
    ],
    ids=["cut off", "entity bomb", "entity of a file", "unknown class"],
)
def test_bad_voc(tmp_path: Path, text: str, message: str) -> None:
    voc_as_published(tmp_path / "source")
    path = tmp_path / "source/Annotations/a0.xml"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        brought(FolderSource(type="folder", root=str(tmp_path / "source"), format="voc"), tmp_path / "dataset")
    assert caught.value.message.startswith(f"{path}: {message}")


def test_voc_leftovers_reach_the_checks(tmp_path: Path) -> None:
    root = tmp_path / "source"
    voc_as_roboflow(root)
    write_voc(root / "train", root / "train", ["odd"], left="nan")
    write_voc(root / "train", root / "train", ["nobody"])
    (root / "train/nobody.jpg").unlink()
    source = FolderSource(type="folder", root=str(root), format="voc")
    dataset = Dataset(name="small", source=source, classes=CLASSES, split=Split(method="keep"))
    materialise(dataset, tmp_path / "dataset")
    report = run_checks(tmp_path / "dataset", dataset)
    examples = {check["name"]: check["examples"] for check in report["checks"] if not check["ok"]}
    assert examples["label_lines"] == ["images/train/odd.jpg"]
    assert examples["label_orphan"] == ["labels/train/nobody.txt"]


# --- archives --------------------------------------------------------------------------------------------------------


def pack_zip(root: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as packed:
        for file in sorted(root.rglob("*")):
            packed.write(file, f"export/{file.relative_to(root)}")


def pack_tar(root: Path, path: Path) -> None:
    with tarfile.open(path, "w:gz") as packed:
        packed.add(root, "export")


PACKERS: dict[str, Callable[[Path, Path], None]] = {"data.zip": pack_zip, "data.tar.gz": pack_tar}


@pytest.mark.parametrize("name", PACKERS)
def test_an_archive_gives_what_its_folder_gives(tmp_path: Path, name: str) -> None:
    root = write_folder(tmp_path / "source")
    PACKERS[name](root, tmp_path / name)
    digest = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    (tmp_path / "out").mkdir()
    brought(FolderSource(type="folder", root=str(root)), tmp_path / "folder")
    brought(ArchiveSource(type="archive", file=str(tmp_path / name), sha256=digest), tmp_path / "out/dataset")
    records = [read_json(tmp_path / folder / "dataset.json")["sha256"] for folder in ("folder", "out/dataset")]
    assert records[0] == records[1]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["dataset"]
    assert not list((tmp_path / "out/dataset").glob(".unpacked*"))


@pytest.mark.parametrize("write", [coco_as_published, voc_as_published], ids=["coco", "voc"])
def test_other_formats_in_an_archive(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path / "source")
    pack_zip(tmp_path / "source", tmp_path / "data.zip")
    form: Any = write.__name__.split("_")[0]
    rows = brought(ArchiveSource(type="archive", file=str(tmp_path / "data.zip"), format=form), tmp_path / "dataset")
    assert sides(rows) == ["train"] * 8 + ["val"] * 2


def zip_with(*members: tuple[str | zipfile.ZipInfo, bytes]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, content in members:
                packed.writestr(name, content)

    return write


def zip_link(path: Path) -> None:
    link = zipfile.ZipInfo("a.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    zip_with((link, b"/etc/passwd"))(path)


def tar_with(name: str, kind: bytes, target: str = "") -> Callable[[Path], None]:
    def write(path: Path) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        with tarfile.open(path, "w") as packed:
            packed.addfile(member, io.BytesIO())

    return write


def cut_zip(path: Path) -> None:
    zip_with(("a.txt", b"content" * 99))(path)
    path.write_bytes(path.read_bytes()[:-30])


def damage_zip(path: Path) -> None:
    zip_with(("a.txt", np.random.default_rng(0).bytes(4000)))(path)
    content = bytearray(path.read_bytes())
    content[2000] ^= 255
    path.write_bytes(content)


def cut_tar(path: Path) -> None:
    with tarfile.open(path, "w:gz") as packed:
        member = tarfile.TarInfo("a.bin")
        member.size = 200_000
        packed.addfile(member, io.BytesIO(np.random.default_rng(0).bytes(200_000)))
    path.write_bytes(path.read_bytes()[:100_000])


BAD_ARCHIVES: dict[str, tuple[Callable[[Path], None], str]] = {
    "zip slip": (zip_with(("../evil.txt", b"x")), "member '../evil.txt' leads out of the folder"),
    "deep zip slip": (zip_with(("a/../../evil.txt", b"x")), "member 'a/../../evil.txt' leads out of the folder"),
    "absolute name": (zip_with(("/tmp/evil.txt", b"x")), "member '/tmp/evil.txt' leads out of the folder"),
    "Windows drive": (zip_with(("C:\\evil.txt", b"x")), "member 'C:\\evil.txt' leads out of the folder"),
    "backslashes": (zip_with(("..\\evil.txt", b"x")), "member '..\\evil.txt' leads out of the folder"),
    "link in a zip": (zip_link, "member 'a.jpg' is a link or a device"),
    "link in a tar": (tar_with("a", tarfile.SYMTYPE, "/etc"), "member 'a' is a link or a device"),
    "hard link in a tar": (tar_with("a", tarfile.LNKTYPE, "/etc/passwd"), "member 'a' is a link or a device"),
    "device in a tar": (tar_with("a", tarfile.CHRTYPE), "member 'a' is a link or a device"),
    "pipe in a tar": (tar_with("a", tarfile.FIFOTYPE), "member 'a' is a link or a device"),
    "tar slip": (tar_with("../evil.txt", tarfile.REGTYPE), "member '../evil.txt' leads out of the folder"),
    "absolute tar": (tar_with("/evil.txt", tarfile.REGTYPE), "member '/evil.txt' leads out of the folder"),
    "bomb": (zip_with(("a.txt", bytes(80 << 20))), "unpacks to more than 100 times its own size"),
    "too many files": (zip_with(*((f"{n}.txt", b"") for n in range(51))), "unpacks to more than 50 files"),
    "too large": (zip_with(("a.bin", np.random.default_rng(0).bytes(2 << 20))), "unpacks to more than 0.001 GiB"),
    "cut zip": (cut_zip, "neither a zip nor a tar file"),
    "damaged zip": (damage_zip, "cannot be unpacked: "),
    "cut tar": (cut_tar, "cannot be unpacked: "),
    "no archive": (lambda path: path.write_text("hello"), "neither a zip nor a tar file"),
    "missing": (lambda _: None, "no such file"),
}


@pytest.mark.parametrize(("write", "message"), BAD_ARCHIVES.values(), ids=BAD_ARCHIVES.keys())
def test_bad_archive_is_one_clear_error_and_leaves_nothing(
    tmp_path: Path, write: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "data.archive"
    write(path)
    before = sorted(tmp_path.iterdir())
    limits = ArchiveLimits(files=50, gib=0.001 if "GiB" in message else 1.0)
    with pytest.raises(DataError) as caught:
        brought(ArchiveSource(type="archive", file=str(path), limits=limits), tmp_path / "dataset")
    assert caught.value.message.startswith(f"{path}: {message}")
    assert caught.value.fix
    assert sorted(tmp_path.iterdir()) == before


def test_a_name_that_is_there_twice(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        zip_with(("a.txt", b"1"), ("a.txt", b"2"))(tmp_path / "data.zip")
    with pytest.raises(DataError, match=r"member 'a.txt' is there twice"):
        brought(ArchiveSource(type="archive", file=str(tmp_path / "data.zip")), tmp_path / "dataset")


def test_hash_of_the_spec_must_be_the_archive_s(tmp_path: Path) -> None:
    pack_zip(write_folder(tmp_path / "source"), tmp_path / "data.zip")
    digest = hashlib.sha256((tmp_path / "data.zip").read_bytes()).hexdigest()
    with pytest.raises(DataError) as caught:
        brought(ArchiveSource(type="archive", file=str(tmp_path / "data.zip"), sha256="0" * 64), tmp_path / "dataset")
    assert caught.value.message == f"{tmp_path}/data.zip: SHA-256 is {digest}, the spec has {'0' * 64}"


# --- addresses -------------------------------------------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    """Serves one file from memory on the loopback interface, and misbehaves as told."""

    content = b""
    etag = '"first"'
    ranges = True
    cut_after: int | None = None  # bytes of the next answer, once
    failing = 0  # answers with 503 to come

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/files/data.zip?version=1"


class Handler(BaseHTTPRequestHandler):
    """Answers GET with ranges and validators."""

    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(dict(self.headers))
        if self.server.failing:
            self.server.failing -= 1
            self.send_error(503)
        elif not self.path.startswith("/files/"):
            self.send_error(404)
        elif self.server.etag and self.headers.get("If-None-Match") == self.server.etag:
            self.send_response(304)
            self.end_headers()
        else:
            self._send()

    def _send(self) -> None:
        content, start = self.server.content, 0
        wanted = self.headers.get("Range")
        if self.server.ranges and wanted and self.headers.get("If-Range", self.server.etag) == self.server.etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        if self.server.etag:
            self.send_header("ETag", self.server.etag)
        self.end_headers()
        end, self.server.cut_after = self.server.cut_after, None
        self.wfile.write(content[start:] if end is None else content[start : start + end])

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server of the packed small folder, and a cache of one's own."""
    monkeypatch.setenv("ETHOS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch_module, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(fetch_module, "PIECE_BYTES", 1 << 10)
    pack_zip(write_folder(tmp_path / "source"), tmp_path / "data.zip")
    with Server() as running:
        running.content = (tmp_path / "data.zip").read_bytes()
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def test_an_address_gives_what_its_folder_gives(tmp_path: Path, server: Server) -> None:
    digest = hashlib.sha256(server.content).hexdigest()
    brought(FolderSource(type="folder", root=str(tmp_path / "source")), tmp_path / "folder")
    brought(UrlSource(type="url", url=server.url, sha256=digest), tmp_path / "dataset")
    records = [read_json(tmp_path / folder / "dataset.json")["sha256"] for folder in ("folder", "dataset")]
    assert records[0] == records[1]
    brought(UrlSource(type="url", url=server.url, sha256=digest), tmp_path / "dataset")
    assert len(server.requests) == 1


def test_a_download_goes_on_where_it_broke(server: Server) -> None:
    server.cut_after = 5120
    path = fetch_module.fetch(server.url)
    assert path.read_bytes() == server.content
    assert path.name == "data.zip"
    assert server.requests[1]["Range"] == "bytes=5120-"
    assert server.requests[1]["If-Range"] == '"first"'


def test_a_download_goes_on_in_a_later_run(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "ATTEMPTS", 1)
    server.cut_after = 5120
    with pytest.raises(DataError, match="run it again: it goes on where it was"):
        fetch_module.fetch(server.url)
    assert fetch_module.fetch(server.url).read_bytes() == server.content
    assert server.requests[1]["Range"] == "bytes=5120-"


def test_a_file_that_changed_meanwhile_is_fetched_from_its_start(server: Server) -> None:
    server.cut_after = 5120
    first = server.content
    fetch_module.fetch(server.url)
    server.content, server.etag = first[::-1], '"second"'
    assert fetch_module.fetch(server.url).read_bytes() == first[::-1]


def test_a_part_of_an_older_file_is_not_continued(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "ATTEMPTS", 1)
    server.cut_after = 5120
    with pytest.raises(DataError):
        fetch_module.fetch(server.url)
    server.content, server.etag = server.content[::-1], '"second"'
    assert fetch_module.fetch(server.url).read_bytes() == server.content


def test_an_unchanged_file_is_not_fetched_again(server: Server) -> None:
    fetch_module.fetch(server.url)
    assert fetch_module.fetch(server.url).read_bytes() == server.content
    assert server.requests[1]["If-None-Match"] == '"first"'


@pytest.mark.parametrize("known", [True, False], ids=["hash in the spec", "no hash"])
def test_a_server_without_versions_is_resumed_only_with_a_hash(server: Server, known: bool) -> None:
    server.etag, server.cut_after = "", 5120
    digest = hashlib.sha256(server.content).hexdigest()
    assert fetch_module.fetch(server.url, digest if known else None).read_bytes() == server.content
    assert ("Range" in server.requests[1]) is known


def test_a_server_without_ranges_starts_again(server: Server) -> None:
    server.ranges, server.cut_after = False, 5120
    assert fetch_module.fetch(server.url).read_bytes() == server.content


def test_a_server_that_fails_for_a_while(server: Server) -> None:
    server.failing = 3
    assert fetch_module.fetch(server.url).read_bytes() == server.content
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("failing", "path", "message"),
    [(99, "/files/data.zip", "the server answers 503"), (0, "/nowhere", "the server answers 404 Not Found")],
    ids=["always failing", "not there"],
)
def test_a_refusal_names_the_address(server: Server, failing: int, path: str, message: str) -> None:
    server.failing = failing
    url = server.url.split("/files")[0] + path
    with pytest.raises(DataError) as caught:
        fetch_module.fetch(url)
    assert caught.value.message.startswith(f"{url}: {message}")
    assert "\n" not in caught.value.message


def test_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETHOS_CACHE", str(tmp_path))
    monkeypatch.setattr(fetch_module, "PAUSE_SECONDS", 0.0)
    with pytest.raises(DataError, match="Connection refused"):
        fetch_module.fetch("http://127.0.0.1:9/data.zip")


def test_a_file_with_another_hash_is_not_kept(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"the spec has {'0' * 64}"):
        brought(UrlSource(type="url", url=server.url, sha256="0" * 64), tmp_path / "dataset")
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []
    assert not (tmp_path / "dataset").exists()


@pytest.mark.parametrize("url", ["ftp://host/a.zip", "file:///etc/passwd", "data.zip"])
def test_only_http_addresses(url: str) -> None:
    with pytest.raises(ValueError, match="should match pattern"):
        UrlSource(type="url", url=url)


def test_a_turned_image_has_the_size_that_is_shown(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "source")
    path = root / "train/images/train000.jpg"
    with Image.open(path) as image:
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(path, exif=exif)
    materialise(folder_dataset(root, "keep"), tmp_path / "dataset")
    row = next(row for row in read_manifest(tmp_path / "dataset") if row.path.stem == "train000")
    assert (row.width, row.height) == (48, 64)
