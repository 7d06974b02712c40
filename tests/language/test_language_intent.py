"""Questions are sorted by their wording; what is not plain is left to the language model."""

import pytest
import torch

from mambamia_cli.language.intent import Intent, affirmation, read, skeleton
from mambamia_cli.language.intent.stretch import Stretch, cut
from mambamia_cli.language.lexicon import Lexicon

WORDS = ["camera", "cat", "dog", "egg", "drum", "pill", "car", "bus", "guitar", "acoustic guitar", "hot dog", "fire truck", "watch", "can opener", "wine",
         "glasses", "rock", "light", "screen", "flower", "orange", "Model T", "hat", "sofa", "scene"]  # fmt: skip
LEXICON = Lexicon(WORDS, torch.zeros(len(WORDS), 2))
FOUR = ("cat", "dog", "egg", "drum")
PAIR = ("cat", "dog")
YES_NO = ("yes", "no")


def asked(text, choices=()):
    return read(text, LEXICON.named(text), tuple(choices))


WHEN = [
    ("At what time does the pill appear?", "pill"), ("When does the cat enter?", "cat"), ("At which second is there a dog?", "dog"),
    ("How many seconds into the video is the drum shown?", "drum"), ("How many seconds in does the cat show up?", "cat"),
    ("How many seconds in is the fire truck seen?", "fire truck"), ("When can the unicycle be seen?", "unicycle"),
    ("When does the unicycle appear?", "unicycle"), ("when does the Unicycle appear", "unicycle"), ("WHEN IS THE CAT ON SCREEN?!", "cat"),
    ("When can I see the acoustic guitar?", "acoustic guitar"), ("When can acoustic guitars be seen?", "acoustic guitar"),
    ("Find the moment the cat shows up.", "cat"), ("Find the moment when a zeppelin is visible", "zeppelin"), ("Give me the timestamp of the cat.", "cat"),
    ("What is the timestamp of the accordion?", "accordion"), ("What's the timestamp of the hot dog's appearance?", "hot dog"),
    ("What time does the bus arrive?", "bus"), ("At which point in the video do we see a lighthouse?", "lighthouse"),
    ("In which second of the clip does the egg come into view?", "egg"), ("At what timestamp is the wombat first visible?", "wombat"),
    ("Can you tell me when the dog appears?", "dog"), ("Please tell me when there is a dog.", "dog"), ("Tell me the exact second at which the drum turns up", "drum"),
    ("How long does it take until the car appears?", "car"), ("How far into the video does the dog show up?", "dog"),
    ("How long before a cat is seen?", "cat"), ("How late does the submarine come in?", "submarine"), ("In this video, when do unicorns appear?", "unicorn"),
    ('When does the "fire truck" appear?', "fire truck"), ("When does \u201cpogo stick\u201d appear?", "pogo stick"), ("When does a glass of wine appear?", "wine"),
    ("When is a picture of a cat shown?", "cat"), ("When does the old bus drive by?", "bus"), ("When is the dog running?", "dog"),
    ("When does the dog bark?", "dog"), ("When does the man jump over the fence?", "man"), ("When does the man with the hat appear?", "man"),
    ("Around what minute is the can opener shown?", "can opener"), ("When do we see a watch?", "watch"), ("When is the statue of liberty shown?", "statue of liberty"),
    ("When did the red unicycle appear on the screen?", "red unicycle"), ("When is the cat next to the dog?", "cat"), ("On what second does the egg appear?", "egg"),
    ("What is the time when the cat appears?", "cat"), ("From what time is the cat seen?", "cat"), ("When exactly does a flower appear in this film?", "flower"),
    ("when in the video is the penny-farthing visible", "penny-farthing"), ("At what moment does the lens appear?", "lens"),
    ("During which part of the video does the kite appear?", "kite"), ("Where in the video does the kite appear?", "kite"), ("What's the first time a kite appears?", "kite"),
    ("Give the timestamp where the kite appears", "kite"), ("How much time passes before the kite appears?", "kite"), ("What is the first moment when the kite is visible?", "kite"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "thing"), WHEN)
def test_a_question_of_time_names_its_thing_known_or_not(text, thing):
    intent = asked(text)
    assert (intent.kind, intent.things) == ("when", (thing,))


def test_a_question_of_time_says_which_time():
    assert [asked(f"When does the cat {how}?").edge for how in ("appear", "first appear", "appear for the last time", "disappear", "leave")] == [
        None, "first", "last", "end", "end"]  # fmt: skip
    assert asked("When does it end?").kind == "when"  # nothing to look for, and still not the language model's to invent
    assert asked("When does the cat appear?", ("0:05", "0:20")).kind == "when"
    assert asked("When does the cat appear?", ("at the start", "at the end")).kind is None


EXISTS = [
    ("Is there a cat in the video?", "cat"), ("Does a dog appear?", "dog"), ("Can you see any eggs?", "egg"), ("Do we ever see a unicycle?", "unicycle"),
    ("Is a drum shown?", "drum"), ("Is the bus shown in this clip?", "bus"), ("Are there any unicorns in the film?", "unicorn"),
    ("Does the video show a zeppelin?", "zeppelin"), ("Does this clip contain a hot dog?", "hot dog"), ("Is a fire truck visible at any point?", "fire truck"),
    ("Can a cat be seen?", "cat"), ("Can a submarine be seen anywhere in the video?", "submarine"), ("Do you see a cat?", "cat"), ("Did a dog show up?", "dog"),
    ("Has a cat been shown?", "cat"), ("Is there at any point a watch?", "watch"), ("Are cats visible?", "cat"), ("Was there a pill?", "pill"),
    ("Does an orange ever appear on screen?", "orange"), ("Does any wombat come into view?", "wombat"), ("In this video, is there a dog?", "dog"),
    ("Is it true that there is a cat?", "cat"), ("Is a glass of wine shown?", "wine"), ('Is there a "pogo stick"?', "pogo stick"),
    ("Is there an acoustic guitar to be seen?", "acoustic guitar"), ("Do glasses appear?", "glasses"), ("is a Model T in the video", "Model T"),
    ("Is there a light?", "light"), ("Can one see a screen?", "screen"), ("Could you see a rock in the clip?", "rock"), ("Does the video have a dog in it?", "dog"), ("Any dogs in the video?", "dog"), ("Are we shown a cat?", "cat"), ("Does a cat make an appearance?", "cat"),
    ("Have you seen a cat?", "cat"), ("Does the video include an image of a cat?", "cat"), ("Do you think there is a cat?", "cat"), ("Is there a camera in the video?", "camera"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "thing"), EXISTS)
@pytest.mark.parametrize("choices", [(), YES_NO, ("No", "Yes")])
def test_whether_a_thing_is_there(text, thing, choices):
    intent = asked(text, choices)
    assert (intent.kind, intent.things) == ("exists", (thing,))


def test_a_statement_is_a_question_where_yes_and_no_are_offered():
    assert asked("A cat appears in the video.", ("true", "false")) == Intent("exists", ("cat",))
    assert asked("There is a dog in the video", YES_NO) == Intent("exists", ("dog",))
    assert asked("A cat appears in the video.").kind is None


ORDER = [
    ("Does the cat come before the dog?", "cat", "dog"), ("Is the cat shown earlier than the dog?", "cat", "dog"), ("Does the cat appear after the dog?", "dog", "cat"),
    ("Is the unicycle seen before the zeppelin?", "unicycle", "zeppelin"), ("Do we see the egg before the drum appears?", "egg", "drum"),
    ("Can the egg be seen before the drum in the video?", "egg", "drum"), ("Does the cat show up later than the dog does?", "dog", "cat"),
    ("Did the bus arrive prior to the car?", "bus", "car"), ("Is there a cat before the dog?", "cat", "dog"), ("Does a cat precede the dog?", "cat", "dog"),
    ("Is it true that the cat appears before the dog?", "cat", "dog"), ("Does the cat follow the dog?", "dog", "cat"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "sooner", "later"), ORDER)
@pytest.mark.parametrize("choices", [(), YES_NO])
def test_whether_one_comes_before_the_other(text, sooner, later, choices):
    assert asked(text, choices) == Intent("order", (sooner, later))


FIRST = ["Which of these appears first?", "What shows up earliest?", "Which object is the first to appear?", "the first thing seen", "What is the first thing to appear in the video?",
         "Which one comes first?", "Who or what enters first?", "Which object is shown first?", "What appears first?", "Which appears before the others?",
         "Which of the following is seen first in the clip?", "What can be seen first?", "Which of these do we see first?", "What do you see first?", "Which is shown earliest",
         "Which animal appears first?", "Which of these is the first one to come into view?", "Of these, which appears first?", "What's first?", "Name the first object.", "Which is the earliest to be shown?"]  # fmt: skip


@pytest.mark.parametrize("text", FIRST)
def test_what_is_first_and_the_same_words_for_the_last(text):
    assert asked(text, FOUR) == Intent("first", FOUR)
    late = text.replace("before the", "after the").replace("first", "last").replace("earliest", "latest")
    assert asked(late, FOUR) == Intent("last", FOUR)


@pytest.mark.parametrize(("text", "kind"), [
    ("Which appears before the other, the cat or the dog?", "first"), ("Which comes first, cat or dog?", "first"), ("Does the cat or the dog appear first?", "first"),
    ("What comes earlier: cat or dog?", "first"), ("Of cat and dog, which is shown first?", "first"), ("Which of cat and dog appears later?", "last"),
    ("Which is seen last, a cat, or a dog?", "last"), ("Between the cat and the dog, which shows up first?", "first"), ("Which appears after the other, cat or dog?", "last"),
    ("Which appears first, the cat or the dog?", "first"), ("Is the cat or the dog shown first?", "first"), ("Out of the cat and the dog, which is shown first?", "first"), ("Who comes in sooner, the cat or the dog?", "first"),
])  # fmt: skip
def test_of_two_that_the_question_names(text, kind):
    assert asked(text) == asked(text, PAIR) == Intent(kind, PAIR)


def test_of_two_that_are_offered():
    assert asked("Which appears before the other?", PAIR) == Intent("first", PAIR)
    assert asked("Which of the two is seen later?", PAIR) == asked("Which comes after the other?", PAIR) == Intent("last", PAIR)
    assert asked("Which comes first, zeppelin or kayak?") == Intent("first", ("zeppelin", "kayak"))


APPEAR = ["Which of these appears in the video?", "Which of the following can be seen?", "What object is shown in the clip?", "Which one is in the video?",
          "Which of these can be seen?", "One of these is in the video. Which?", "What appears in the video?", "Which of these is visible at some point?",
          "What can you see?", "Which of these objects does the video show?", "Which of these do we see?", "Which one of these shows up?", "Which animal appears in the video?",
          "Select the one that appears.", "Which is present in the film?", "What is in the video?"]  # fmt: skip


@pytest.mark.parametrize("text", APPEAR)
def test_which_appears(text):
    assert asked(text, FOUR) == Intent("appear", FOUR)


@pytest.mark.parametrize("text", [
    "Which of these does NOT appear?", "Which of these does not appear in the video?", "Which one isn't shown?", "Which of the following is never seen?",
    "Which of these is missing from the video?", "Which object is absent?", "What can't be seen in the clip?", "Which of these doesn't the video show?",
    "All of these appear except which one?", "Which is the one that does not appear?", "Which of these things is not shown?", "Which of these don't we see?", "Which one never shows up?", "Which of these is not in the video?", "Which of these cannot be seen?", "Which animal does not appear?",
])  # fmt: skip
def test_which_does_not_appear(text):
    assert asked(text, FOUR) == Intent("absent", FOUR)


@pytest.mark.parametrize(("text", "kind", "about"), [
    ("What appears right after the cat?", "after", "cat"), ("What comes next after the cat?", "after", "cat"), ("Which object follows the unicycle?", "after", "unicycle"),
    ("What is shown right after the cat?", "after", "cat"), ("What do we see immediately after the dog?", "after", "dog"), ("After the dog, what appears?", "after", "dog"),
    ("Which of these appears after the cat?", "after", "cat"), ("What appears just before the cat?", "before", "cat"), ("What precedes the dog?", "before", "dog"),
    ("Which thing comes right after the fire truck has appeared?", "after", "fire truck"), ("After the cat, what is the next object to appear?", "after", "cat"),
    ("What is the next thing shown after the cat?", "after", "cat"), ("What is the object that comes after the cat?", "after", "cat"), ("What follows the cat in the video?", "after", "cat"),
])  # fmt: skip
def test_what_comes_after_a_thing(text, kind, about):
    assert asked(text, ("egg", "drum", "bus")) == Intent(kind, ("egg", "drum", "bus"), about=about)
    assert asked(text) == Intent(kind, (), about=about)


@pytest.mark.parametrize("text", [
    "List the objects in order.", "What objects appear, in order?", "Name everything that appears.", "List the objects in the order they appear.",
    "In what order do the objects appear?", "Name the objects in order of appearance.", "What objects appear in the video?", "Which objects can be seen?",
    "Name the objects in the video.", "List all the things that can be seen", "What can you see?", "What things are shown in the clip?", "What appears in the video?",
    "Please list everything you see.", "Give me a list of the objects", "What are the objects in the video?", "Tell me what objects you see", "What is in the video?", "What does the video show?", "What do you see?", "Which things are there in the video?",
])  # fmt: skip
def test_an_open_question_of_what_appears(text):
    assert asked(text) == Intent("list")


@pytest.mark.parametrize("text", [
    "What happens?", "What is happening in this clip?", "What's going on?", "What takes place in the film?", "Describe the video.", "Please describe this video in one sentence.",
    "Describe what you see.", "What is this video about?", "What is the video about?", "Tell me about the video.", "Could you tell me something about this film?",
    "Summarize the video.", "Summarise what happens.", "Give me a summary.", "Write a short description of the clip", "Can you describe what is happening in the video?", "Who is in the video?",
])  # fmt: skip
def test_a_question_of_everything_is_one_of_what_appears(text):
    assert asked(text) == Intent("list")


OF_ONE = [
    ("How many cats are there?", "number", "cat"), ("How many different dogs can you see?", "number", "dog"), ("What number of unicycles appears?", "number", "unicycle"),
    ("How often does the cat appear?", "times", "cat"), ("How many times can a fire truck be seen?", "times", "fire truck"), ("How many times is the zeppelin shown?", "times", "zeppelin"), ("How often does the camera appear?", "times", "camera"),
    ("How long is the cat visible?", "duration", "cat"), ("For how long does the dog appear?", "duration", "dog"), ("How many seconds is the bus on screen?", "duration", "bus"),
    ("How much time does the dog spend on screen?", "duration", "dog"), ("How long does the zeppelin stay?", "duration", "zeppelin"),
    ("What colour is the car?", "colour", "car"), ("What color are the cars?", "colour", "car"), ("Which colour does the old bus have?", "colour", "bus"), ("What is the colour of the hat?", "colour", "hat"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kind", "thing"), OF_ONE)
def test_how_much_of_one_thing_there_is_and_what_it_is_like(text, kind, thing):
    assert asked(text) == asked(text, ("one", "two")) == Intent(kind, (thing,))


@pytest.mark.parametrize(("text", "thing", "colour"), [
    ("Is the car red?", "car", "red"), ("Is there a red car?", "car", "red"), ("Are the old cars blue?", "car", "blue"), ("Can you see a white unicycle?", "unicycle", "white"),
])  # fmt: skip
@pytest.mark.parametrize("choices", [(), YES_NO])
def test_whether_a_thing_has_a_colour(text, thing, colour, choices):
    assert asked(text, choices) == Intent("coloured", (thing,), about=colour)


def test_how_long_the_video_is():
    assert asked("How long is the video?") == asked("What is the length of this film?") == Intent("length")


PARTS = [
    ("at 0:15", Stretch(14, 16)), ("at 20 seconds", Stretch(19, 21)), ("around 1:02:03.5", Stretch(3722.5, 3724.5)), ("at the 30 second mark", Stretch(29, 31)),
    ("at 1h2m3s", Stretch(3722, 3724)), ("12 s into the video", Stretch(11, 13)), ("one minute and ten seconds in", Stretch(69, 71)), ("at minute 2", Stretch(119, 121)),
    ("at 0:00", Stretch(0, 1)), ("between 0:10 and 0:20", Stretch(10, 20)), ("from 10 to 20 seconds", Stretch(10, 20)), ("from 1 to 2 minutes", Stretch(60, 120)),
    ("in 1:30-2:10", Stretch(90, 130)), ("after 30 seconds", Stretch(30, None)), ("before 0:20", Stretch(0, 20)), ("from 0:10 on", Stretch(10, None)),
    ("in the first ten seconds", Stretch(0, 10)), ("in the last minute", Stretch(-60, None, back=True)), ("during the final 90 seconds of the film", Stretch(-90, None, back=True)),
    ("in the second half of the video", Stretch(1 / 2, 1, share=True)), ("in the last third", Stretch(2 / 3, 1, share=True)), ("within half a minute", Stretch(0, 30)),
]  # fmt: skip


@pytest.mark.parametrize(("words", "stretch"), PARTS)
def test_a_part_of_the_video_beside_any_kind_of_question(words, stretch):
    assert asked(f"What can be seen {words}?") == Intent("list", stretch=stretch)
    assert asked(f"Is there a cat {words}?") == Intent("exists", ("cat",), stretch=stretch)
    assert asked(f"Which of these appears first {words}?", FOUR) == Intent("first", FOUR, stretch=stretch)
    assert asked(f"{words[0].upper()}{words[1:]}, how often does a dog appear?") == Intent("times", ("dog",), stretch=stretch)


@pytest.mark.parametrize("text", ["How many seconds into the video is the cat seen?", "What appears 5 seconds after the cat?", "At which second is there a dog?", "Is there a cat at 0:75?",
                                  "Is there a cat at 0:10 or at 0:20?", "What appears first?", "Is there a second dog?"])  # fmt: skip
def test_other_numbers_are_no_part_of_the_video(text):
    assert cut(text) == (text, None)


def test_a_part_in_seconds_of_a_video():
    assert Stretch(14, 16).within(0, 45) == (14, 16) and Stretch(40, 50).within(0, 45) == (40, 45) and Stretch(30, None).within(10, 45) == (30, 45)
    assert Stretch(-10, None, back=True).within(0, 45) == (35, 45) and Stretch(0.5, 1, share=True).within(10, 30) == (20, 30)
    start, end = Stretch(50, 60).within(0, 45)
    assert start >= end


@pytest.mark.parametrize("text", ["How many different objects appear?", "How many different things appear in the video?", "Count the objects that appear.",
                                  "How many things can be seen?", "What is the number of objects shown?", "How many distinct items are there in the clip?",
                                  "How many objects does the video show?"])  # fmt: skip
def test_how_many(text):
    assert asked(text) == Intent("count") and asked(text, ("2", "3", "4")) == Intent("count", ("2", "3", "4"))


@pytest.mark.parametrize(("text", "choices"), [
    ("How many people are there?", ()), ("How many scenes are there?", ()), ("What happens?", ("he falls", "she sings")), ("What colour appears first?", ("red", "blue")),
    ("Is the red car blue?", ()), ("Is it red?", ()), ("Is there a cat on the sofa?", ()), ("Is there a cat and a dog?", ()), ("Are there two dogs?", ()), ("Is there a second camera?", ()), ("Is the camera moving?", ()),
    ("Is there more than one cat?", ()), ("Does the man jump?", ()), ("Is the cat bigger than the dog?", YES_NO), ("Is there no cat?", ()), ("Is the cat asleep?", YES_NO),
    ("Does the cat not appear?", YES_NO), ("Is there a dog biscuit bowl being eaten?", ()), ("Is there anything?", ()), ("Is there a cat at the end?", YES_NO),
    ("Which of these appears between the cat and the dog?", ("egg", "drum")), ("Which appears twice?", FOUR), ("Which of these is on the sofa?", FOUR),
    ("Which appears second?", FOUR), ("Which of these appears first after the cat?", ("egg", "drum", "dog", "bus")), ("What is the man wearing?", ("hat", "glasses")), ("How long is the cat's tail?", ()),
    ("Which of these does the man hold?", FOUR), ("Why does the cat appear?", ()), ("Where is the cat?", ()), ("Describe the cat.", ()), ("What is he doing?", ()), ("What is the man saying?", ()), ("Where does this take place?", ()),
    ("In how many scenes is there a cat?", ()), ("What text is shown?", ()),
    ("Who is first in line at the shop?", FOUR), ("What appears first and last?", FOUR), ("Which one is not a cat?", FOUR), ("Which appears longest?", FOUR),
    ("Can you see what the man is doing?", ()), ("What animals appear?", ()), ("Does a cat or a dog appear?", YES_NO), ("Is the video good?", ()), ("?", ()), ("", ()),
    ("List the colours of the cars.", ()), ("Does the cat appear before the dog barks at the moon?", ()), ("Who does the dog follow?", ()),
])  # fmt: skip
def test_what_is_not_plain_is_the_language_models(text, choices):
    intent = asked(text, choices)
    if text == "Which of these appears first after the cat?":
        assert intent.kind in ("after", None)  # the same thing
    else:
        assert intent.kind is None, intent


def test_the_skeleton_keeps_the_things_words():
    assert skeleton("Does the old bus come after a blue car, in this film?") == ("do X appear after X here", [("old bus", False), ("blue car", False)])
    assert skeleton("Which comes first, the cat, a dog or an egg?") == ("which appear first ALT", [("cat", False), ("dog", False), ("egg", False)])


def test_yes_and_no_in_any_case_and_order():
    assert affirmation(("No", "Yes")) == ("Yes", "No") and affirmation(("TRUE", "false.")) == ("TRUE", "false.")
    assert affirmation(("yes", "no", "maybe")) is None and affirmation(PAIR) is None
