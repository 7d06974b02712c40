"""How an answer comes from what is seen, for every kind of question. The video, the model and its prompts are real (of random
weights); what is seen of each word is made up, so that the right answer is known."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from mambamia_cli import open_video
from mambamia_cli.language.matching import MatchRule
from mambamia_cli.pipeline import Models, asking, sightings
from mambamia_cli.pipeline.ordering import Named
from mambamia_cli.pipeline.sightings import Sightings

TIMES = np.arange(32) / 4
SEEN = {"cat": (4, 6.0), "dog": (16, 5.0), "car": (24, 4.0), "fox": (10, -6.0)}  # frame and log-odds; the fox is not there
WORDS = ("cat", "dog", "car", "fox", "owl", "Model T")
look_for = sightings.look_for  # before the tests put their own in its place


@pytest.fixture(scope="module")
def video(tiny_model, three_cuts, tmp_path_factory):
    """A tiny model that has a lexicon of WORDS."""
    import shutil

    from mambamia_cli.language.lexicon import Lexicon, word_point

    folder = tmp_path_factory.mktemp("asked") / "tiny"
    shutil.copytree(tiny_model, folder)
    models = Models(str(tiny_model), device="cpu", threads=1)
    language = models.language
    table = [word_point(word, language.tokenize, language.embed) for word in (*WORDS, "scene")]
    import torch

    Lexicon([*WORDS, "scene"], torch.stack(table)).save_pretrained(folder / "lexicon")
    return open_video(three_cuts.path, models=Models(str(folder), device="cpu", threads=1), fps=4)


@pytest.fixture(autouse=True)
def sights(monkeypatch):
    """What is seen of each word, whatever the weights."""

    def look_for(index, models, words, second=None, within=None):
        odds = np.full((len(words), len(TIMES)), -9.0)
        for row, word in zip(odds, words, strict=True):
            frame, height = SEEN.get(word, (0, -9.0))
            row[frame : frame + 3] = height
        frames = np.arange(len(TIMES)) if within is None else sightings.frames_within(TIMES, *within)
        end = 8.0 if within is None else within[1]
        return Sightings(tuple(words), odds[:, frames], 1 / (1 + np.exp(-odds[:, frames].max(1))), TIMES[frames], end)

    monkeypatch.setattr(asking.sightings, "look_for", look_for)


@pytest.mark.parametrize(
    ("question", "choices", "answer"),
    [
        ("When does the dog appear?", None, "at 4 s (0:04)"),
        ("When does the dog disappear?", None, "at 5 s (0:05)"),
        ("At what time does the dog appear?", ("1 s", "4 s", "7 s"), "4 s"),
        ("Is there a cat?", None, "yes"),
        ("Is there a fox?", ("No", "Yes"), "No"),
        ("Does the cat appear before the dog?", None, "yes"),
        ("Does the cat come after the dog?", ("yes", "no"), "no"),
        ("Which of these appears in the video?", ("fox", "owl", "car"), "car"),
        ("Which of these does not appear?", ("cat", "fox", "car"), "fox"),
        ("Which of these appears first?", ("car", "dog", "fox"), "dog"),
        ("Which of these appears last?", ("cat", "dog", "fox"), "dog"),
        ("What appears right after the cat?", ("car", "dog", "fox"), "dog"),
        ("Which appears first, the dog or the cat?", None, "cat"),
        ("Which comes last, the dog or the cat?", None, "dog"),
        ("How long can the dog be seen?", None, "about 1 s"),
        ("How long can the fox be seen?", None, "not seen"),
        ("How long is the dog visible?", ("0:05", "2 seconds", "30 s"), "2 seconds"),
        ("How often does the dog appear?", None, "once"),
        ("How many times does the fox appear?", None, "never"),
        ("How often does the dog appear?", ("never", "once", "3 times"), "once"),
        ("How many foxes are there?", None, "none seen"),
        ("How many foxes are there?", ("none", "one", "two"), "none"),
        ("Is there a dog in the first 3 seconds?", None, "no"),
        ("Is there a dog between 0:03 and 0:06?", None, "yes"),
        ("Which of these appears in the second half?", ("cat", "dog", "fox"), "dog"),
        ("When does the dog appear after 0:03?", None, "at 4 s (0:04)"),
        ("How long is the video?", None, "8 s (0:08)"),
    ],
)
def test_every_kind_is_answered_from_what_is_seen(video, question, choices, answer):
    record = video.ask(question, choices=choices, max_tokens=4, by="evidence")
    assert record.answer == answer
    assert record.confidence > 0.8 and not record.unsure


def test_stretches_that_are_counted_are_whole(video):
    """A dip in between and a faint end belong to it; what is only likelier than not does not count beside what is sure."""
    row = np.full(32, -9.0)
    row[4:8], row[8:10], row[10:12] = 6.0, -9.0, 5.0  # half a second is not seen
    row[12:14] = -1.5  # 0.18, too faint; then
    row[12] = -0.5  # of presence 0.38
    row[24:26] = 0.5  # 0.62
    seen = Sightings(("cat",), row[None], np.ones(1), TIMES, 8.0)
    models = SimpleNamespace(match=MatchRule(slope=1.0, middle=0.0))
    assert [(e.start, e.end) for e in sightings.appearances(seen, models, 0)] == [(1.0, 3.25)]
    seen.odds[0, 4:12] = 0.7  # 0.67: now nothing is sure, and both are as good
    assert [(e.start, e.end) for e in sightings.appearances(seen, models, 0)] == [(1.0, 3.25), (6.0, 6.5)]
    seen.odds[0, :] = -0.1
    assert not sightings.appearances(seen, models, 0)


def test_of_what_is_there_no_number_is_known_but_that_it_is_not_none(video):
    record = video.ask("How many dogs are there?")
    assert record.answer == "at least one" and record.confidence is None and record.evidence[0].start == 4.0
    assert video.ask("How many dogs are there?", choices=("one", "two"), max_tokens=4).finish == "choice"  # the language model's


def test_a_part_of_the_video_that_there_is_not(video):
    record = video.ask("Is there a dog after 0:30?")
    assert record.answer == "I looked at 0 s (0:00) to 8 s (0:08) only" and record.confidence is None and not record.evidence


@pytest.fixture
def silent(video):
    """The same, its language model not trusted with answers of its own."""
    rule, video.models.match = video.models.match, replace(video.models.match, writes=False)
    video._named.clear()
    yield video
    video.models.match = rule
    video._named.clear()


def test_a_language_model_that_is_not_trusted_writes_nothing(silent, monkeypatch):
    monkeypatch.setattr("mambamia_cli.pipeline.survey.named", lambda *parts: (Named("cat", 1.0, 2.0, 0.9),))
    monkeypatch.setattr(asking, "generate", lambda *parts: pytest.fail("it wrote"))
    why = silent.ask("Why is it so?")
    assert (why.answer, why.finish, why.unsure) == ("I cannot tell; what I can name is cat", "unknown", True)
    where = silent.ask("Where is the dog, and where is the fox?")
    assert where.answer == "I cannot tell; the dog is seen at 4 s (0:04) and no fox is seen" and where.evidence[0].start == 4.0
    assert silent.ask("What happens?").answer == "cat" and silent.ask("What is shown at 0:05?").answer == "nothing I can name"


def test_what_an_untrusted_language_model_chooses_is_a_guess(silent):
    record = silent.ask("Is the dog happy?", choices=("yes", "no", "perhaps"), max_tokens=4)
    assert record.unsure and record.confidence <= 1 / 3 + 1e-4 and record.finish == "choice"
    assert not silent.ask("Is there a dog?", choices=("yes", "no")).unsure


@pytest.mark.parametrize(("question", "choices", "answer", "confidence"), [
    ("What colour is the dog?", None, "red", 0.7), ("What colour is the dog?", ("blue", "red"), "red", 0.87), ("What colour is the fox?", None, "not seen", 1.0),
    ("Is the dog red?", None, "yes", 1.0), ("Is there a blue dog?", None, "no", 0.86), ("Is the fox red?", ("No", "Yes"), "No", 1.0),
])  # fmt: skip
def test_a_colour_is_that_of_the_pixels_that_speak_for_the_thing(silent, monkeypatch, question, choices, answer, confidence):
    part = np.zeros(11)
    part[[3, 7, 0]] = 0.7, 0.1, 0.2  # red, blue, black
    monkeypatch.setattr(asking.colour, "shares", lambda *parts: part)
    record = silent.ask(question, choices=choices)
    assert record.answer == answer and record.confidence == pytest.approx(confidence, abs=0.02) and record.finish == "evidence"
    assert bool(record.evidence) == ("fox" not in question and answer != "no")


def test_what_a_question_takes_for_granted_counts_though_nobody_recognised_it(silent, monkeypatch):
    monkeypatch.setattr("mambamia_cli.pipeline.survey.named", lambda *parts: (Named("egg", 0.5, 1.0, 0.9), Named("car", 6.0, 7.0, 0.9)))
    assert silent.ask("What appears right after the dog?").answer == "car"
    assert silent.ask("What appears right after the fox?").finish == "unknown"


def test_where_a_thing_is_seen_stands_in_the_evidence(video):
    record = video.ask("When does the dog appear?")
    assert (record.evidence[0].start, record.evidence[0].end) == (4.0, 4.75) and record.finish == "evidence"
    assert video.ask("Is there a fox?").evidence is None


def test_a_thing_that_is_not_seen_has_no_time(video):
    """But where times are offered, one of them is chosen."""
    record = video.ask("When does the fox appear?")
    assert record.answer == "not seen" and not record.evidence and record.confidence > 0.95 and not record.unsure
    assert video.ask("When does the fox appear?", choices=["2 s", "6 s"]).answer == "2 s"


def test_of_things_that_are_not_seen_none_is_told_as_sure(video):
    record = video.ask("Which of these appears in the video?", choices=("fox", "owl"), by="evidence")
    assert record.answer == "fox" and record.choices[0][1] > 0.9  # the likelier of the two
    assert record.confidence < 0.01 and record.unsure


def test_a_question_of_another_kind_is_the_language_models(video):
    record = video.ask("Why is it so?", max_tokens=4)
    assert record.finish in ("length", "stop", "repeat") and record.confidence is None


def test_what_is_recognised_answers_a_question_that_names_nothing(video, monkeypatch):
    things = (Named("cat", 1.0, 2.0, 0.9), Named("dog", 4.0, 5.0, 0.5))
    monkeypatch.setattr("mambamia_cli.pipeline.survey.named", lambda *parts: things)
    video._named.clear()
    record = video.ask("What objects appear, in order?")
    assert record.answer == "cat and dog" and record.confidence is None  # there may be more
    assert video.ask("What appears last?").confidence == pytest.approx(0.5)
    assert [(e.start, e.end) for e in record.evidence] == [(1.0, 2.0), (4.0, 5.0)]


def test_a_word_is_the_lexicons_however_it_is_written(video):
    import torch

    from mambamia_cli.language.matching import log_odds, smoothed
    from mambamia_cli.language.projector import frozen_tokens

    index, models = video.index(), video.models
    tokens = frozen_tokens(models.projector, index.anchors.read(list(range(len(index.times)))))
    wanted = smoothed(log_odds(models.lexicon, tokens, ["Model T"]), index.seconds, models.match.smooth)
    torch.testing.assert_close(torch.from_numpy(look_for(index, models, ["model T "]).odds), wanted)


def test_a_number_is_chosen_by_what_is_recognised(video, monkeypatch):
    things = (Named("cat", 1.0, 2.0, 0.9), Named("dog", 4.0, 5.0, 0.95), Named("car", 6.0, 7.0, 0.2))
    monkeypatch.setattr("mambamia_cli.pipeline.survey.named", lambda *parts: things)
    video._named.clear()
    record = video.ask("How many different objects appear?", choices=("one", "2", "3 objects", "four"))
    assert record.answer == "2" and record.finish == "evidence" and len(record.evidence) == 3
    shares = dict(record.choices)
    assert shares["2"] == pytest.approx((0.9 * 0.95 * 0.8 + 0.9 * 0.05 * 0.2 + 0.1 * 0.95 * 0.2) / 0.996, abs=1e-3)  # none is no choice
    assert shares["four"] < 0.001 < shares["one"] and record.confidence is None
    # What is no number is the language model's to choose.
    assert video.ask("How many different objects appear?", choices=("2", "many"), max_tokens=4).finish == "choice"
