"""What kind of question was asked, where that is plain from its wording. Everything else is the language model's.

    when     at what time, when, how many seconds into the video
    exists   is there a, does a ... appear, can a ... be seen: to be answered yes or no
    first    first, earliest; "before the other" between two things
    last     last, latest, at the end; "after the other"
    appear   which of these appears, is shown, can be seen
    absent   which of these does not appear
    order    does one thing come before another: to be answered yes or no
    after    what appears right after a thing; `before`: right before it
    list     name what appears, in order
    count    how many different things appear

A question is read in two steps. `skeleton` rewrites it with few words: those that make the wording (SAME, PHRASES) become
one word for each meaning, and every run of other words, which must name a thing, becomes X; "Does the old bus come after a
blue car, in this film?" is "do X after X". The patterns of the kinds are then short, and a thing needs no lexicon to be found.
A word that belongs to no wording known here makes an X too many, and the question is the language model's.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

_SAME = """
be: is are was were been being
do: does do did will would
can: can could may might
have: has have had
we: we you i one anyone anybody people viewers somebody someone they
which: which what who
appear: appear appears appeared appearing appearance come comes came coming enter enters entered entering arrive arrives arrived arriving
    occur occurs occurred emerge emerges emerged
seen: seen shown visible present displayed featured depicted pictured spotted observed noticed included presented viewed
see: see spot find notice observe detect glimpse recognize recognise
show: show shows showed contain contains contained include includes included feature features depict depicts display displays
gone: disappear disappears disappeared leave leaves left vanish vanishes vanished exit exits
video: video clip film movie footage recording
thing: object objects thing things item items everything anything something elements element
first: first earliest initially initial earlier sooner
last: last latest finally final later
not: not never no none without missing absent except isn't aren't wasn't weren't doesn't don't didn't can't cannot couldn't
next: next
other: other others rest
before: before precede precedes preceding preceded
after: after follow follows following followed
list: list name enumerate
many: many
count: count
order: order sequence
whether: whether if
with: with on in at under near behind beside inside by over above below into onto to from as like than while during between among for through of
there: there
when: when
here: here
how: how
it: it its this that these those them both all he she
and: and plus
or: or versus vs
"""
SAME = {form: token for line in re.sub(r"\n    ", " ", _SAME).strip().splitlines() for token, forms in [line.split(":")] for form in (token, *forms.split())}

_SHOWN = r"(?:video|clip|film|movie|footage|recording)"
_HERE = rf"(?:in|during|within|throughout|from|of) (?:the|this|that) (?:whole |entire |short |following )?{_SHOWN}"
_MOMENT = r"(?:times?|seconds?|moments?|minutes?|points?|timestamps?|time[- ]?stamps?|time ?codes?)"
PHRASES = [(re.compile(rf"\b(?:{pattern})(?![\w'-])"), f" {token} ") for pattern, token in (
    ((r"(?:can|could|would|will) you (?:please )?(?:tell|say|give|show|find)(?: me| us)?|please|tell (?:me|us)|i(?: would|'d)? (?:want|like) to know"
      r"|do you know|say"), ""),
    (r"do you think(?: that)?", "whether"), (r"^any", "be there any"), (r"in total|altogether|overall", ""),
    (r"(?:is|are|was|were) the (?:one|thing|object|item)s? (?:that|which)", ""), (r"(?:give|write|make|show) (?:me |us )?(?:a|the) (?:\w+ )?list of", "list"),
    (r"out of(?! (?:these|those|them|the following))", "between"),
    # when
    (rf"(?:(?:find|give|mark|what (?:is|was)|what's) (?:me |us )?)?the (first|last) {_MOMENT}(?: {_HERE})?(?: (?:of|when|where|at which|that))?", r"when \1"),
    (rf"(?:during|in|at) (?:what|which) (?:part|portion|half)(?: {_HERE})?|where {_HERE}", "when"),
    (rf"(?:at|on|in|around|from|by|about) (?:what|which) (?:exact |precise |approximate )?{_MOMENT}(?: {_HERE})?", "when"),
    ((rf"(?:find|give|name|tell|show|mark|state|what (?:is|was)|what's)? ?(?:me |us )?(?:the )?(?:exact |precise |approximate )?{_MOMENT}"
      rf"(?: {_HERE})? (?:of|for|when|where|at which|in which|that)"), "when"),
    (rf"(?:find|give|name|mark|what (?:is|was)|what's) (?:me |us )?(?:the )(?:exact )?{_MOMENT}|the (?:exact )?(?:moment|timestamp)|(?:what|which) {_MOMENT}", "when"),
    ((rf"how (?:many|much) (?:seconds|minutes|time)(?: (?:in to|into|in|after|from|until|till|before|pass(?:es)?|go(?:es)?(?: by)?)\b)+"
      rf"(?: (?:the|this) (?:start|beginning|{_SHOWN})(?: of)?(?: (?:the|this) {_SHOWN})?)?(?: (?:before|until|till))?"), "when"),
    ((rf"how (?:long|far|late|soon|early|quickly)(?: (?:does|do|did|is|will) it(?: take| be)?)?"
      rf"(?: (?:in to|into|in|until|till|before|after)\b)+(?: (?:the|this) {_SHOWN})?"), "when"),
    (r"how (?:soon|early|late)|when(?:'s| is it that)?(?: exactly)?", "when"),
    # here, and words that change nothing
    (rf"(?:the|this|that) (?:whole |entire )?{_SHOWN}(?= (?:show|have|has|contain|include|feature|depict|display))", "video"), (r"first one|first ones", "first"),
    (r"last one|last ones", "last"), (r"to(?= (?:appear|come|enter|show|arrive|turn|pop|emerge|make|occur|be)\b)", ""),
    (rf"{_HERE}|(?:up )?on (?:the )?screen|in view|into view|in sight|into sight|on display|in it|to be seen|part of (?:the|this) {_SHOWN}", "here"),
    ((r"at any (?:point|time|moment|stage)|at some (?:point|time|moment)|at all|anywhere|somewhere|at least once|ever|actually|also|really"
      r"|even|exactly|roughly|approximately|about|immediately|directly|straight|right|just|shortly|for the|time|times|at one point|then|only"), ""),
    (r"is it (?:true|the case|correct) that|is it so that", "whether"),
    # appear, see
    (r"(?:show|shows|showed|showing|turn|turns|turned|turning|pop|pops|popped|popping|crop|crops) up|come(?:s)? up|came up", "appear"),
    (r"(?:come|comes|came|coming) (?:in|on|along|out)(?! the\b)", "appear"),
    (r"(?:make|makes|made|making) (?:an|its|their|his|her|the) (?:first )?appearance|gets? (?:shown|seen)", "appear"),
    (r"make out|catch sight of|get to see", "see"), (r"go(?:es)? away", "gone"),
    # first, last
    (r"(?:before|earlier than|sooner than|ahead of|prior to) (?:all |any of |both )?the (?:others?|rest)", "first"),
    (r"(?:after|later than) (?:all |any of |both )?the (?:others?|rest)", "last"),
    (r"at the (?:very )?(?:start|beginning)|to begin with", "first"), (r"at the (?:very )?end", "last"),
    (r"(?:earlier|sooner) than|ahead of|prior to", "before"), (r"later than|subsequent to", "after"),
    # which
    ((r"(?:which|what|who)(?: one)?(?: out)? of (?:all )?(?:these|those|them|the following|the (?:above|options|choices|objects|things|items)"
      r"|(?:the|these) (?:two|three|four|five)(?: \w+)?|these (?:objects|things|items|options|words)|the \w+ below)"), "which"),
    (r"one of (?:these|those|them|the following)", "thing"), (r"(?:out )?of (?:all )?(?:these|those|them|the following)(?: (?:two|three|four|five|objects|things|items|options))?(?: ,)?", ""),
    (r"(?:which|what) (?:one|thing|object|item|option)(?: or \w+)?|who or what|(?:select|choose|pick) (?:the one|what|which)(?: that)?", "which"),
    (r"what'?s", "which be"), (r"which'?s", "which be"), (r"there'?s", "there be"),
    # not, list, count
    (r"fails? to", "not"), (r"how many (?:different|distinct|separate|unique|various)", "how many"), (r"(?:the )?(?:total )?number of", "many"),
    (r"(?:of|all|the|their|its) ?appearances?\b", "appear"), (r"(?:in|by|following) (?:the |their |its |what |which )?(?:\w+ )?(?:order|sequence)(?: of)?(?: in which)?", "order"),
    (r"(?:all|each|every|different|various|distinct)(?: of)?", ""),
)]  # fmt: skip

DETERMINERS = {"a", "an", "the", "any", "some", "another", "his", "her", "my", "their", "our", "your"}
MEASURES = {"glass", "cup", "bottle", "piece", "slice", "bunch", "group", "pair", "picture", "image", "photo", "photograph", "drawing", "kind",
            "type", "sort", "pack", "herd", "bowl", "bag", "jar", "plate", "instance", "example", "sight", "lot", "couple"}  # fmt: skip
COLOURS = {"red", "blue", "green", "yellow", "black", "white", "brown", "pink", "purple", "grey", "gray", "golden", "colourful", "colorful"}
NO_SORT = {"colour", "color", "number", "shape", "word", "letter", "event", "action", "scene", "season", "part", "happens", "happened", "sound"}
NO_THING = {"two", "three", "four", "five", "six", "more", "most", "much", "same", "several", "multiple", "second", "third", "video", "story",
            "scene", "end", "start", "beginning", "camera", "music", "title", "credits", "nothing", "else", "twice"}  # fmt: skip
AFTER_ARTICLE = {"first", "last", "thing", "video", "other", "appear", "order", "many", "next"}  # else a word after "a" or "the" is a thing: a watch
QUOTED = "quoted-"
YES, NO = {"yes", "y", "true", "correct", "right"}, {"no", "n", "false", "incorrect", "wrong"}
SEEN = r"(?: seen| here| appear| be)+"
PATTERNS = {
    "exists": (rf"be there X(?:{SEEN})?", r"do X (?:appear|show)(?: here)*", r"(?:do|can|have) we (?:see|seen)(?: here)? X(?: here)*",
               rf"can X{SEEN}", rf"be X{SEEN}", rf"have X{SEEN}", r"be we seen X(?: here)*", r"do video (?:show|have) X(?: here)*", rf"whether (?:there be X|X(?: can)?{SEEN}|we (?:can )?see X)(?: here)*"),
    "exists, yes or no": (rf"X(?: can)?{SEEN}", r"there be X(?: here)*", r"we (?:can )?see X(?: here)*", r"video show X", r"X"),
    "order": (r"(?:do|be|can|have|whether)(?: there| we| video)*(?: see| show)* X(?: can)?(?: seen| here| appear| be| first| show)* (?:before|after) X(?: do| be| can| have| appear| seen| here)*",
              r"(?:do|be|can|have)(?: we)?(?: see)* X(?: seen| here| appear| be)* (?:first|last)(?: and)? (?:before|after) X(?: do| be| appear| seen| here)*"),
    "order, yes or no": (r"X(?: be| can| seen| here| appear| first)* (?:before|after) X(?: do| be| can| appear| seen| here)*",),
    "after": (r"which(?: X)?(?: be| can| do| we| it| thing| see| seen| appear| show| here| next| first)* (?:before|after) X(?: be| seen| appear| here| have)*",
              r"(?:before|after) X(?: be| seen| appear| here)* which(?: X)?(?: be| can| do| we| it| thing| see| seen| appear| show| here| next| first)+"),
    "absent": (r"which(?: X)?(?: be| do| can| we| it| thing)* not(?: be| seen| see| here| appear| show| video| with)*", r"which(?: X)?(?: do| can)*(?: (?:we|video) not| not (?:we|video)) (?:see|show)(?: here)*",
               r"(?:(?:it|thing) )*(?:can |do )?(?:appear|be seen|be here)(?: here)? not(?: with)? which"),
    "appear": (r"(?:which|list)(?: X)?(?: be| can| do| have| we| video| it| there| thing)*(?: see| seen| here| appear| show| be| it| there)+",
               r"thing(?: X)?(?: be| can| do)*(?: see| seen| here| appear)+ which(?: be)?(?: it)?", r"which(?: X)?(?: thing)? (?:do|can) we see(?: here)*"),
    "list": (r"list(?=.* (?:thing|seen|see|appear))(?: it| thing| which| we| can| be| do| have| there| seen| see| here| appear| show| order)*",
             r"which(?: thing| be| can| do| have| we| video| it| there)*(?: see| seen| here| appear| show| order| there| it| and| with| be)+",
             r"(?:with )?(?:which )?order(?: do| be| can)*(?: thing)(?: appear| seen| be| here)+", r"which be order(?: thing| it| appear| seen| which| do| be| here)*"),
    "count": (r"how many thing(?: be| can| do| have| we| there| it| video)*(?: see| seen| here| appear| show| there| be)+", r"which(?: be)? many thing(?: it| which| be| can| seen| here| appear)*",
              r"count thing(?: it| which| be| can| we| seen| see| here| appear)*"),
}  # fmt: skip


@dataclass(frozen=True)
class Intent:
    """`kind` as in the module's table, or None; `things`: what the answer is about or chosen among (none: it is open).

    `about`: of "after" and "before" the thing that is not to be chosen. `edge` of "when": "first" or "last" time, or "end"
    where it is asked when something is seen no more. The things of "order" are turned so that "yes" means the first comes first.
    """

    kind: str | None
    things: tuple[str, ...] = ()
    about: str | None = None
    edge: str | None = None


class Phrase(NamedTuple):
    """The words of a thing as they stand in the question; whether the wording makes it a plural."""

    text: str
    plural: bool = False


def read(question: str, named: list[str], choices: tuple[str, ...] = ()) -> Intent:
    """`named`: words of the lexicon in the question; `choices`: the answers offered."""
    bones, phrases = skeleton(question)
    things = [_known(phrase, named) for phrase in phrases]
    closed, offered = bool(choices) and affirmation(choices) is not None, tuple(choices)
    if bones.startswith("when"):
        return _when(bones, phrases, things, named, offered)
    if closed or not choices:
        said = _yes_or_no(bones, phrases, things, closed)
        if closed or said.kind:
            return said
    return _chosen(bones, things, offered)


def _when(bones: str, phrases: list[Phrase], things: list[str], named: list[str], choices: tuple[str, ...]) -> Intent:
    """Of several things the first is whose time is asked. Among answers that are no times the language model chooses."""
    if any(not re.search(r"\d", choice) for choice in choices):
        return Intent(None)
    words = bones.split()
    edge = "end" if "gone" in words else next((w for w in words if w in ("first", "last")), None)
    if things and (verb := re.match(r"when(?: there| first| last)*( do| be| can| have)? X(?! (?:seen|appear|gone|here|first|last|can|be))", bones)):
        things = [_doer(phrases[0], things[0], verb.group(1) == " do", named)]
    return Intent("when", tuple(things[:1]), edge=edge)


def _doer(phrase: Phrase, thing: str, infinitive: bool, named: list[str]) -> str:
    """Who does what in "(when does) the old dog bark", whose verb is not known here."""
    words = phrase.text.split()
    if thing in named or len(words) < 2:
        return thing
    for end in range(len(words) - 1, 0, -1):
        if (thing := _known(Phrase(" ".join(words[:end])), named)) in named:
            return thing
    return " ".join(words[:-1]) if infinitive or words[-1].endswith(("s", "ing")) else thing


def _yes_or_no(bones: str, phrases: list[Phrase], things: list[str], closed: bool) -> Intent:
    def fits(kind: str) -> bool:
        return _fits(kind, bones) or (closed and _fits(f"{kind}, yes or no", bones))

    if fits("order") and len(things) == 2:
        return Intent("order", tuple(things if "before" in bones.split() else reversed(things)))
    # "a red car": that there is a car does not answer it
    if fits("exists") and len(things) == 1 and not set(phrases[0].text.split()) & (NO_THING | COLOURS):
        return Intent("exists", tuple(things))
    return Intent(None)


def _chosen(bones: str, things: list[str], choices: tuple[str, ...]) -> Intent:
    """Kinds that choose among things, those offered or those that the question names as alternatives; or that are open."""
    among = choices
    if "ALT" in bones or ("BOTH" in bones and "which" in bones):  # "the cat or the dog": all the things named, or the question is about more than a choice
        if "X" in bones or (choices and {t.lower() for t in things} - {c.strip().lower() for c in choices}):
            return Intent(None)
        among, bones = choices or tuple(things), " ".join(w for w in bones.split() if w not in ("ALT", "BOTH", "with"))
        bones = bones if bones.startswith("which") else f"which {bones}"
        things = []
    elif not choices and things and _fits("after", bones):
        return Intent("after" if " after " in f" {bones} " else "before", (), about=things[-1])
    if things and bones.startswith("which X") and choices and things[0] not in NO_SORT:
        bones, things = bones.replace("which X", "which", 1), things[1:]  # "which animal": what the choices are
    words = bones.split()
    if len(things) == 1 and among and _fits("after", bones):
        return Intent("after" if "after" in words else "before", among, about=things[0])
    if things:
        return Intent(None)
    if among and _fits("absent", bones):
        return Intent("absent", among)
    edges = {w for w in words if w in ("first", "last")}
    if len(edges) == 1 and (words[0] in ("which", "list") or among):
        rest = " ".join(w for w in words if w not in edges)
        if _fits("appear", f"{rest} appear" if rest.startswith(("which", "list")) else f"which {rest} appear"):
            return Intent(edges.pop(), among)
    if not among:
        return Intent(next((kind for kind in ("count", "list") if _fits(kind, bones)), None))
    if _fits("count", bones):
        return Intent("count", choices)
    return Intent("appear", among) if _fits("appear", bones) and len(among) > 1 else Intent(None)


def _fits(kind: str, bones: str) -> bool:
    return any(re.fullmatch(pattern, bones) for pattern in PATTERNS.get(kind, ()))


def affirmation(choices: tuple[str, ...]) -> tuple[str, str] | None:
    """The choices that mean yes and no, as they are written, if there are these two and no other."""
    plain = {choice.strip().lower().rstrip(".!"): choice for choice in choices}
    if len(plain) != 2 or not (yes := YES & set(plain)) or not (no := NO & set(plain)):
        return None
    return plain[yes.pop()], plain[no.pop()]


def skeleton(question: str) -> tuple[str, list[Phrase]]:
    """-> the question with X for each thing, ALT for things joined by "or" and BOTH by "and", and the words of the things, in order."""
    text = " ".join(question.lower().replace("\u2019", "'").translate({0x201C: '"', 0x201D: '"'}).split())
    quoted: list[str] = []

    def keep(match: re.Match) -> str:
        quoted.append(match.group(1) or match.group(2))
        return f" the {QUOTED}{len(quoted) - 1} "

    text = re.sub(r"\"([^\"]{2,40})\"|(?<!\w)'([^']{2,40})'(?!\w)", keep, text)
    text = re.sub(r"[.?!]+(?=\s|$)|[()\[\]]", " ", text)
    text = re.sub(r"[:;,]", " , ", text)
    text = re.sub(r"^\W+", "", " ".join(text.split()))
    for pattern, token in PHRASES:
        text = pattern.sub(token, text)
    bones, things = _things(re.findall(r"[\w'-]+|,", text), quoted)
    line = re.sub(r"(?<!\S)X(?: ,)?(?: X(?: ,)?)* (or|and) X(?!\S)", lambda m: "ALT" if m.group(1) == "or" else "BOTH", " ".join(bones))
    line = " ".join(w for w in line.split() if w != ",")
    line = re.sub(r"^(?:here |with (?=ALT|BOTH))+", "", line)
    return re.sub(r"\b(be|do|can|have|here|appear|see|first|last)(?: \1)+\b", r"\1", line), things


def _things(words: list[str], quoted: list[str]) -> tuple[list[str], list[Phrase]]:
    """Words of the wording as one of each meaning, runs of other words as X."""
    bones: list[str] = []
    things: list[Phrase] = []
    run: list[str] = []
    article = ""
    plural = any(w in ("are", "were", "do", "have") for w in words)

    def close() -> None:
        nonlocal article
        if run:
            things.append(Phrase(" ".join(run), article in ("any", "some") or (plural and article not in ("a", "an"))))
            bones.append("X")
        run.clear()
        article = ""

    for before, word in zip(["", *words], words, strict=False):
        if word in DETERMINERS:
            if before != "of":
                close()
            article = word
        elif word == "of" and run:
            if not {run[-1], run[-1].rstrip("s")} & MEASURES:
                run.append("of")
            else:
                run.clear()
        elif word == "," or (word in SAME and (before not in DETERMINERS or SAME[word] in AFTER_ARTICLE)):
            close()
            bones.append(SAME.get(word, word))
        else:
            run.append(quoted[int(word.removeprefix(QUOTED))] if word.startswith(QUOTED) else word.removesuffix("'s").removesuffix("'"))
    close()
    return bones, things


def _known(phrase: Phrase, named: list[str]) -> str:
    """The longest word of the lexicon that a phrase is or ends in ("old buses" -> "bus"), else the phrase."""
    from mambamia_cli.language.lexicon import singulars

    known, words = {name.lower(): name for name in named}, phrase.text.split()
    for begin in range(len(words)):
        for form in singulars(" ".join(words[begin:])):
            if form in known:
                return known[form]
    return _singular(phrase.text) if phrase.plural else phrase.text


def _singular(phrase: str) -> str:
    """A guess that is right for regular plurals, for words that no lexicon has."""
    for ending, kept in (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("sses", "ss"), ("xes", "x")):
        if phrase.endswith(ending) and len(phrase) > len(ending) + 1:
            return phrase[: -len(ending)] + kept
    return phrase[:-1] if phrase.endswith("s") and not phrase.endswith(("ss", "us", "is")) else phrase
