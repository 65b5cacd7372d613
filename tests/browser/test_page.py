"""The main job, in a real Chromium: numbers on screen are those that attnxr computes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

import attnxr
from attnxr.dashboard.patch import awaits_writes
from tests.browser.visitor import HEADS, SEQUENCE, VOCABULARY, Visitor

START = "Time flies like an arrow. Fruit flies like a banana."
Arrive = Callable[[str], Visitor]
PALETTE = """() => Object.values(Bokeh.documents)
    .flatMap((doc) => Array.from(doc.all_models))
    .find((model) => model.type === "LogColorMapper").palette"""


def results(
    model: attnxr.Model, text: str, metric: str = "cosine", positional: bool = True
) -> tuple[xr.Dataset, xr.Dataset]:
    encodings = model.encode(text, truncate=True)
    near = model.neighbors(encodings, metric=metric, positional=positional)
    return near, attnxr.sequence_distances(encodings, metric=metric)


@pytest.fixture(scope="session")
def start(minilm_model: attnxr.Model) -> tuple[xr.Dataset, xr.Dataset]:
    return results(minilm_model, START)


def test_a_newcomer_sees_real_neighbours_and_clicks_through_them(
    arrive: Arrive, newcomers_server: str, start: tuple[xr.Dataset, xr.Dataset]
) -> None:
    visitor = arrive(newcomers_server)
    visitor.page.set_viewport_size({"width": 1280, "height": 800})
    assert visitor.text_box.input_value() == START
    visitor.sees(*start, layer=0, head=0, position=1)
    visitor.page.wait_for_function("() => innerWidth === 1280")
    assert visitor.bottom(HEADS) < 800  # tokens, the whole map and the table are on one screen

    visitor.press_token(11)
    visitor.page.get_by_text("layer 0 · “banana” at position 11").first.wait_for()
    visitor.sees(*start, layer=0, head=0, position=11)

    visitor.press_cell(4, 7)
    visitor.page.get_by_text("layer 4 · “banana” at position 11").first.wait_for()
    visitor.sees(*start, layer=4, head=7, position=11)

    visitor.select("Layer", "2")
    visitor.page.get_by_text("layer 2 · “banana” at position 11").first.wait_for()
    visitor.sees(*start, layer=2, head=7, position=11)


def test_what_is_known_comes_with_the_page_and_all_that_follows_a_click_in_one_message(visitor: Visitor) -> None:
    heard: list[str] = []
    page = visitor.page.context.new_page()
    page.set_default_timeout(60_000)
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: heard.append(str(frame))))
    page.goto(visitor.page.url)
    visitor = Visitor(page)
    visitor.wait()
    (document,) = (frame for frame in heard if frame.startswith('{"doc"'))
    assert "position 1, token" in document  # what is said of a chip

    visitor.table(VOCABULARY).locator("tbody td").first.evaluate("(cell) => { window.kept = cell }")
    heard.clear()
    visitor.press_token(3)
    visitor.page.get_by_text("“␣like” attends most to").first.wait_for()
    answer = "".join(frame for frame in heard if frame.startswith('{"events"'))
    if awaits_writes():
        (answer,) = (frame for frame in heard if '"attr":"chosen"' in frame)
    assert answer.count('{"events"') <= 12  # else one for each thing that changed
    assert answer.count('"attr":"table"') == 2
    assert '"kind":"ColumnDataChanged"' in answer
    assert '"attr":"query"' in answer
    assert visitor.table(VOCABULARY).locator("tbody td").first.evaluate("(cell) => cell === window.kept")


def test_a_head_is_chosen_in_either_table(visitor: Visitor) -> None:
    visitor.table(VOCABULARY).locator("tbody tr").nth(3).locator("td").nth(2).click()
    visitor.table(SEQUENCE).locator("thead button[aria-pressed=true]", has_text="2").wait_for()
    assert (visitor.chosen_head(), visitor.outline()) == (2, (0, 2))

    visitor.table(SEQUENCE).get_by_role("button", name="head 3").click()
    visitor.table(VOCABULARY).locator("thead button[aria-pressed=true]", has_text="3").wait_for()
    assert (visitor.chosen_head(SEQUENCE), visitor.outline()) == (3, (0, 3))


def test_tokens_and_heads_can_be_chosen_with_the_keyboard(visitor: Visitor) -> None:
    chip = visitor.strip.get_by_role("button").nth(4)
    chip.focus()
    chip.press("Enter")
    visitor.strip.locator("[aria-pressed=true][data-index='4']").wait_for()
    visitor.table(VOCABULARY).get_by_role("button", name="head 1").focus()
    visitor.page.keyboard.press("Space")
    visitor.table(VOCABULARY).locator("thead button[aria-pressed=true]", has_text="1").wait_for()
    assert visitor.outline() == (0, 1)


@pytest.mark.parametrize(
    ("label", "metric"), [("Euclidean", "euclidean"), ("Dot product", "dot"), ("Centred cosine", "centered_cosine")]
)
def test_another_metric_refreshes_every_view(
    visitor: Visitor, tiny_model: attnxr.Model, label: str, metric: str
) -> None:
    visitor.press_cell(1, 2)
    visitor.page.get_by_text("layer 1 ·").first.wait_for()
    visitor.choose("Distance", label)
    visitor.sees(*results(tiny_model, START, metric), layer=1, head=2, position=visitor.chosen_token())


def test_the_positional_switch_refreshes_every_view(visitor: Visitor, tiny_model: attnxr.Model) -> None:
    visitor.sees(*results(tiny_model, START), layer=0, head=0, position=1)
    with visitor.refresh():
        visitor.page.get_by_role("switch", name="Positional embedding in the vocabulary").click()
    visitor.sees(*results(tiny_model, START, positional=False), layer=0, head=0, position=1)


def test_another_text_refreshes_every_view(visitor: Visitor, tiny_model: attnxr.Model) -> None:
    visitor.press_token(5)
    visitor.run("Nobody knows.")
    visitor.sees(*results(tiny_model, "Nobody knows."), layer=0, head=0, position=1)


def test_the_button_runs_too_and_an_edited_text_says_it_has_not_run(visitor: Visitor, tiny_model: attnxr.Model) -> None:
    visitor.text_box.fill("Nobody knows.")
    visitor.page.get_by_text("not run yet").first.wait_for()
    with visitor.refresh():
        visitor.page.get_by_role("button", name="Run").click()
    visitor.page.get_by_text("or press Enter").first.wait_for()
    visitor.sees(*results(tiny_model, "Nobody knows."), layer=0, head=0, position=1)


def test_another_model_refreshes_every_view(
    visitor: Visitor, tiny_folder: str, tiny_model: attnxr.Model, start: tuple[xr.Dataset, xr.Dataset]
) -> None:
    visitor.choose("Model", "minilm")
    visitor.sees(*start, layer=0, head=0, position=1)
    visitor.press_cell(5, 11)
    visitor.page.get_by_text("layer 5 ·").first.wait_for()

    visitor.choose("Model", tiny_folder)
    visitor.sees(*results(tiny_model, START), layer=2, head=3, position=1)
    assert tiny_folder in visitor.page.get_by_role("status").filter(has_text="vocabulary entries").text_content()


def checks_of(model: attnxr.Model) -> str:
    checks = model.verify()
    largest = [float(np.max(checks[name].values)) for name in ("reconstruction", "identity", "unchanged")]
    figures = [f"{size:.1e}" if size else "0" for size in largest]
    return "✓ checked: W_O z {} · identity {} · output unchanged {}".format(*figures)


def test_the_corner_shows_what_the_models_check_found_and_follows_the_model(
    visitor: Visitor, tiny_model: attnxr.Model, minilm_model: attnxr.Model
) -> None:
    assert visitor.checked() == checks_of(tiny_model)
    visitor.choose("Model", "minilm")
    assert visitor.checked() == checks_of(minilm_model) != checks_of(tiny_model)

    strip, explained = visitor.strip.bounding_box(), visitor.page.locator(".fidelity .help").first
    assert not explained.is_visible()
    visitor.page.locator(".fidelity summary").first.click()
    explained.get_by_text("At most 1e-05 is allowed").click()  # nothing lies over it
    assert "for value, key, query and embedding (path: factored)" in explained.text_content()
    assert visitor.strip.bounding_box() == strip
    visitor.page.keyboard.press("Escape")
    explained.wait_for(state="hidden")

    visitor.select("Model", "no-such-model")
    visitor.page.get_by_role("alert").filter(has_text="no-such-model").wait_for()
    assert visitor.checked() == ""
    assert explained.text_content() == ""


def test_nothing_stale_is_on_screen_while_work_goes_on_and_nothing_moves(visitor: Visitor) -> None:
    visitor.choose("Model", "minilm")
    before = visitor.table(SEQUENCE).bounding_box()
    with visitor.refresh():
        visitor.select("Distance", "Euclidean")
        assert visitor.forgotten() == ""
        assert visitor.table(SEQUENCE).bounding_box() == before
    assert visitor.table(SEQUENCE).bounding_box() == before


def test_a_newer_text_overtakes_an_older_one(visitor: Visitor, tiny_model: attnxr.Model) -> None:
    for text in ("Time flies.", "Fruit flies.", "Nobody knows."):
        visitor.text_box.fill(text)
        visitor.text_box.press("Enter")
    visitor.page.get_by_text(f"{tiny_model.encode('Nobody knows.').sizes['position']} tokens").wait_for()
    visitor.sees(*results(tiny_model, "Nobody knows."), layer=0, head=0, position=1)


def test_what_is_typed_while_an_answer_comes_stays(visitor: Visitor) -> None:
    with visitor.refresh():
        visitor.text_box.fill("Time flies.")
        visitor.text_box.press("Enter")
        visitor.text_box.press_sequentially(" Fruit")
    assert visitor.text_box.input_value() == "Time flies. Fruit"
    visitor.page.get_by_text("not run yet").first.wait_for()
    visitor.page.go_back()
    visitor.page.get_by_text("or press Enter").first.wait_for()
    assert visitor.text_box.input_value() == START


def test_a_model_that_cannot_be_had_says_so_and_the_next_one_works(visitor: Visitor, tiny_folder: str) -> None:
    visitor.select("Model", "no-such-model")
    visitor.page.get_by_role("alert").filter(has_text="no-such-model").wait_for()
    assert "fetch it on a machine with a network" in visitor.error()
    assert visitor.tokens() == []
    assert all(cell["token"] is None for row in visitor.cells(VOCABULARY) for cell in row)

    visitor.select("Model", tiny_folder)
    visitor.wait()
    assert visitor.error() == ""
    assert len(visitor.ranks()) == 12


def test_two_visitors_do_not_disturb_each_other(arrive: Arrive, server: str, tiny_model: attnxr.Model) -> None:
    one, other = arrive(server), arrive(server)
    one.run("Nobody knows.")
    one.press_cell(2, 3)
    one.page.get_by_text("layer 2 ·").first.wait_for()
    other.press_token(3)
    other.strip.locator("[aria-pressed=true][data-index='3']").wait_for()
    one.sees(*results(tiny_model, "Nobody knows."), layer=2, head=3, position=1)
    other.sees(*results(tiny_model, START), layer=0, head=0, position=3)


def test_dark_pages_turn_the_colours_of_the_map(arrive: Arrive, server: str) -> None:
    light, dark = (arrive(server + query).page.evaluate(PALETTE) for query in ("", "?theme=dark"))
    assert light == dark[::-1]
