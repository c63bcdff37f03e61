"""Coils over the API: the list, one coil, the map of the running one; answers fit their schemas."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from fakes.coils import RecordScene
from fakes.page import PageClient, served_page

from edge.web import openapi


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RecordScene]:
    """Two coils that ended, and one that runs."""
    made = RecordScene(tmp_path_factory.mktemp("coils"))
    for name in ("A", "Ö <b>"):
        made.start_coil(name)
        made.turn()
        made.runs((0.0, 9.0, "whole"), (9.0, 10.0, "missed"), coil=name)
        made.defect(4.0, coil=name)
        made.end_coil(name, 10.0)
        made.settle()
    made.start_coil("C")
    made.turn()
    made.runs((0.0, 8.0, "whole"), coil="C")
    made.defect(1.0, coil="C")
    made.defect(7.0, coil="C")
    made.turn()
    yield made
    made.output._book.close()
    made.box.close()


@pytest.fixture(scope="module")
def client(scene: RecordScene) -> Iterator[PageClient]:
    with served_page(scene.settings.state_dir) as page:
        yield page.client()


def answered(client: PageClient, path: str, schema: str) -> Any:
    answer = client.get(f"/api/v1/coils{path}")
    assert answer.status == 200, answer.body
    jsonschema.validate(answer.json, openapi.schema(schema), cls=jsonschema.Draft202012Validator)
    return answer.json


def test_coils_are_listed_by_pages(client: PageClient) -> None:
    """The newest first, the running one among them."""
    first = answered(client, "?limit=2", "api-coils-1")
    assert [(each["coil"], each["ended"] is None, each["defects"]) for each in first["coils"]] == [
        ("C", True, 2),
        ("Ö <b>", False, 1),
    ]
    rest = answered(client, f"?before={first['next']['before']}", "api-coils-1")
    assert [each["coil"] for each in rest["coils"]] == ["A"]
    assert rest["next"] is None


@pytest.mark.parametrize("by", ["id", "coil"])
def test_one_coil_by_id_or_by_name(client: PageClient, by: str) -> None:
    """Sums and map; unknown names are refused."""
    wanted = answered(client, "", "api-coils-1")["coils"][-1][by]
    found = answered(client, f"/{wanted}", "api-coil-1")
    assert found["coil"]["coil"] == "A"
    assert found["coil"]["is_complete"]
    assert [run[2] for run in found["map"]["runs"]["top"]] == ["whole", "missed"]
    assert [each["from_m"] for each in found["map"]["defects"]] == [4.0]
    assert client.get("/api/v1/coils/nothing").status == 404


def test_map_of_the_running_coil(client: PageClient, scene: RecordScene) -> None:
    """All of it, a part of it, and what has come since."""
    whole = answered(client, "/current/map", "api-coil-map-1")
    assert (whole["coil"], whole["is_whole"], whole["reach_m"], len(whole["defects"])) == ("C", True, 8.0, 2)
    part = answered(client, "/current/map?from_m=5&to_m=8", "api-coil-map-1")
    assert [each["from_m"] for each in part["defects"]] == [7.0]
    assert part["runs"]["top"] == [[5.0, 8.0, "whole", None]]
    scene.runs((8.0, 9.0, "partial"), coil="C")
    scene.turn()
    assert answered(client, "/current/map", "api-coil-map-1")["reach_m"] == 9.0
    assert client.get("/api/v1/coils/current/map?from_m=x").status == 400


def test_node_without_records_has_an_empty_map(tmp_path: Path) -> None:
    """Before the first start of the daemon."""
    with served_page(tmp_path) as page:
        client = page.client()
        assert answered(client, "", "api-coils-1")["coils"] == []
        assert answered(client, "/current/map", "api-coil-map-1")["coil"] is None


def test_report_files_come_from_the_shelf_and_else_from_a_child(scene: RecordScene, client: PageClient) -> None:
    """The first request makes a file, the next one gets the same bytes; a page that runs nothing."""
    config = scene.settings.state_dir / "config.yaml"
    config.write_text('node: line3\nstate_dir: .\ncameras: [{name: top, source: "strip:"}]\n')
    first = client.get("/api/v1/coils/A.json")
    assert first.status == 200, first.body
    jsonschema.validate(first.json, openapi.schema("coil-report-1"), cls=jsonschema.Draft202012Validator)
    assert client.get("/api/v1/coils/A.json").body == first.body
    assert (first.json["coil"], first.json["defects"]["minor"], first.json["is_complete"]) == ("A", 1, True)
    page = client.get("/api/v1/coils/%C3%96%20%3Cb%3E.html?paper=letter")
    assert page.status == 200, page.body
    assert "sandbox" in page.headers["Content-Security-Policy"]
    assert "filename*=UTF-8''%C3%96%20%3Cb%3E.html" in page.headers["Content-Disposition"]
    rows = client.get("/api/v1/coils/A.csv")
    assert rows.body.startswith(b"from_m,to_m,across_from_mm")
    assert gzip.decompress(client.get("/api/v1/coils/A.csv", Accept_Encoding="gzip").body) == rows.body
    assert client.get("/api/v1/coils/nothing.pdf").status == 404
    assert client.get("/api/v1/coils/A.json?from=middle").status == 400


def test_trend_over_coils(client: PageClient) -> None:
    """The coils that have ended, the oldest first."""
    found = answered(client, "/trend?last=10", "api-coil-trend-1")
    assert [one["coil"] for one in found["coils"]] == ["A", "\u00d6 <b>"]
