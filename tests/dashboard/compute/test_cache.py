"""An answer that was given is given again, unless it is another model's now or there was no room for it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import pytest
import torch
import xarray as xr

import attnxr
from attnxr.dashboard.compute.answering import answer_request
from attnxr.dashboard.compute.cache import Answers
from attnxr.dashboard.session.answer import Answer, Aspect, Request
from attnxr.model import Model
from tests.support import models

ASKED = Request(models.SENTENCE, "bert", "cosine", True)
OTHER = replace(ASKED, text="Fruit flies.")


def quiet(_message: str, _fraction: float | None) -> None:
    pass


def nbytes(*answers: Answer) -> int:
    """What answers take: every array of theirs, the encodings they share counted once."""
    encodings = {id(each.encodings): each.encodings for each in answers}
    rest = [dataset for each in answers for dataset in (each.neighbors, each.sequence, each.checks)]
    aspects = [dataset for each in answers for dataset in each.aspects.values()]
    datasets = [*encodings.values(), *rest, *aspects]
    return sum(variable.values.nbytes for dataset in datasets for variable in dataset.variables.values())


@pytest.fixture
def model() -> Model:
    return attnxr.Model(models.tiny_bert(), models.wordpiece_tokenizer(), name="bert")


def test_the_same_request_has_the_same_answer_and_another_has_another(model: Model) -> None:
    answers = Answers()
    first = answers(ASKED, lambda _name: model, quiet)
    assert answers(ASKED, lambda _name: model, quiet) is first
    xr.testing.assert_identical(first.neighbors, answer_request(ASKED, lambda _name: model, quiet).neighbors)
    for change in ({"text": "Fruit flies."}, {"metric": "dot"}, {"positional": False}, {"causal": True}):
        request = replace(ASKED, **change)
        xr.testing.assert_identical(
            answers(request, lambda _name: model, quiet).neighbors,
            answer_request(request, lambda _name: model, quiet).neighbors,
        )
    assert len(answers) == 5


def test_what_is_kept_can_be_found_without_asking_for_it(model: Model) -> None:
    answers = Answers()
    assert answers.find(ASKED, model) is None
    given = answers(ASKED, lambda _name: model, quiet)
    assert answers.find(ASKED, model) is given
    assert answers.find(OTHER, model) is None
    assert answers.find(ASKED, attnxr.Model(models.tiny_bert(), models.wordpiece_tokenizer(), name="bert")) is None


def test_encodings_of_another_visitor_serve_again_where_they_are_the_same(model: Model) -> None:
    answers = Answers()
    first = answers(ASKED, lambda _name: model, quiet)
    assert answers(replace(ASKED, metric="dot"), lambda _name: model, quiet).encodings is first.encodings
    assert answers(replace(ASKED, positional=False), lambda _name: model, quiet).encodings is first.encodings
    assert answers(replace(ASKED, causal=True), lambda _name: model, quiet).encodings is not first.encodings
    assert answers(OTHER, lambda _name: model, quiet).encodings is not first.encodings


def test_one_changed_weight_has_another_answer() -> None:
    hf_model = models.tiny_bert()
    model = attnxr.Model(hf_model, models.wordpiece_tokenizer(), name="bert")
    answers = Answers()
    first = answers(ASKED, lambda _name: model, quiet)
    with torch.no_grad():
        hf_model.get_input_embeddings().weight[189, 3] += 1  # of "time"
    second = answers(ASKED, lambda _name: model, quiet)
    assert second is not first
    assert not second.neighbors["distance"].equals(first.neighbors["distance"])
    xr.testing.assert_identical(second.neighbors, answer_request(ASKED, lambda _name: model, quiet).neighbors)
    assert len(answers) == 1  # what the old weights said will never be asked for


def test_models_of_one_name_have_their_own_answers(model: Model) -> None:
    other = attnxr.Model(models.tiny_bert(), models.wordpiece_tokenizer(), name="bert")
    answers = Answers()
    assert answers(ASKED, lambda _name: model, quiet) is not answers(ASKED, lambda _name: other, quiet)


def test_counts_every_array_once_and_aspects_too(model: Model) -> None:
    answers = Answers()
    first = answers(ASKED, lambda _name: model, quiet)
    second = answers(replace(ASKED, metric="dot"), lambda _name: model, quiet)
    third = answers(OTHER, lambda _name: model, quiet)
    assert answers.nbytes == nbytes(first, second, third)

    second.aspects[Aspect("any")] = xr.Dataset({"any": ("x", range(1000))})
    answers.grown(second)
    assert answers.nbytes == nbytes(first, second, third)


def test_keeps_what_was_used_last_within_the_bound(model: Model) -> None:
    size = nbytes(answer_request(ASKED, lambda _name: model, quiet))
    answers = Answers(bound=2 * size)  # the other text is shorter
    first = answers(ASKED, lambda _name: model, quiet)
    other = answers(OTHER, lambda _name: model, quiet)
    assert answers(ASKED, lambda _name: model, quiet) is first
    answers(replace(OTHER, text="An arrow flies."), lambda _name: model, quiet)
    answers(replace(OTHER, text="A banana flies like fruit flies."), lambda _name: model, quiet)

    assert answers.nbytes <= 2 * size
    assert answers(OTHER, lambda _name: model, quiet) is not other


def test_an_answer_that_grows_makes_others_go(model: Model) -> None:
    size = nbytes(answer_request(ASKED, lambda _name: model, quiet))
    answers = Answers(bound=2 * size)
    first, other = (answers(request, lambda _name: model, quiet) for request in (ASKED, OTHER))
    other.aspects[Aspect("large")] = xr.Dataset({"large": ("x", bytearray(size))})

    answers.grown(other)

    assert answers.nbytes == nbytes(other)
    assert answers(OTHER, lambda _name: model, quiet) is other
    assert answers(ASKED, lambda _name: model, quiet) is not first


def test_an_answer_larger_than_the_bound_is_given_and_not_kept(model: Model) -> None:
    answers = Answers(bound=1000)
    assert answers(ASKED, lambda _name: model, quiet).request == ASKED
    assert (len(answers), answers.nbytes) == (0, 0)


def test_what_several_ask_at_once_is_answered_once(model: Model) -> None:
    answers, begun, waited, go_on = Answers(), Event(), Event(), Event()

    def first(message: str, _fraction: float | None) -> None:
        if message.startswith("Running"):
            begun.set()
            assert go_on.wait(30)

    def later(message: str, _fraction: float | None) -> None:
        if message.startswith("Waiting"):
            waited.set()
        assert not message.startswith("Running")

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(answers, ASKED, lambda _name: model, first)
        assert begun.wait(30)
        other = pool.submit(answers, ASKED, lambda _name: model, later)
        assert waited.wait(30)
        go_on.set()
    assert one.result() is other.result()


def test_who_waits_answers_himself_where_the_first_gave_up_and_may_give_up_too(model: Model) -> None:
    answers, begun, waited, go_on = Answers(), Event(), Event(), Event()

    class GivenUpError(Exception):
        pass

    def first(message: str, _fraction: float | None) -> None:
        if message.startswith("Running"):
            begun.set()
            assert go_on.wait(30)
            raise GivenUpError

    def impatient(message: str, _fraction: float | None) -> None:
        if message.startswith("Waiting"):
            raise GivenUpError

    def patient(message: str, _fraction: float | None) -> None:
        if message.startswith("Waiting"):
            waited.set()

    with ThreadPoolExecutor(3) as pool:
        one = pool.submit(answers, ASKED, lambda _name: model, first)
        assert begun.wait(30)
        with pytest.raises(GivenUpError):
            answers(ASKED, lambda _name: model, impatient)
        other = pool.submit(answers, ASKED, lambda _name: model, patient)
        assert waited.wait(30)
        go_on.set()
    assert isinstance(one.exception(), GivenUpError)
    xr.testing.assert_identical(other.result().neighbors, answer_request(ASKED, lambda _name: model, quiet).neighbors)


def test_to_ask_again_is_to_try_again(model: Model) -> None:
    answers = Answers()
    answers(ASKED, lambda _name: model, quiet).refusals[Aspect("any")] = "no"
    assert answers(ASKED, lambda _name: model, quiet).refusals == {}


def test_what_is_called_off_on_the_way_is_not_kept(model: Model) -> None:
    def stop(message: str, _fraction: float | None) -> None:
        if message.startswith("Searching"):
            raise InterruptedError

    answers = Answers()
    with pytest.raises(InterruptedError):
        answers(ASKED, lambda _name: model, stop)
    assert len(answers) == 0


def test_many_threads_may_ask_at_once(model: Model) -> None:
    texts = ["Fruit flies.", "Time flies.", "An arrow flies.", "A banana."]
    size = nbytes(answer_request(OTHER, lambda _name: model, quiet))
    answers = Answers(bound=3 * size)

    def ask(i: int) -> bool:
        request = replace(ASKED, text=texts[i % 4])
        given = answers(request, lambda _name: model, quiet)
        return given.request == request and given.encodings.attrs["text"] == request.text

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(40)))
    assert answers.nbytes <= 3 * size
