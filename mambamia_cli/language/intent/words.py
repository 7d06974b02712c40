"""The words of wordings: what becomes one word for each meaning (SAME, PHRASES), and what a thing is not named by."""

import re

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
happen: happen happens happened happening
howlong: howlong
howoften: howoften
whatcolour: whatcolour
stay: stay stays stayed remain remains remained spend spends spent
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
    # a description
    (r"in (?:detail|short|brief|one|a|two|three|a few|your own) ?(?:short )?(?:sentences?|words?|lines?)?(?= |$)|briefly", ""),
    (r"(?:going on|go on|goes on|went on|tak(?:e|es|ing) place|took place)(?= |$)", "happen"),
    (r"(?:describe|summari[sz]e|(?:tell me|say)(?: something| more)? about)(?= (?:(?:the|this|that|it) ?(?:whole |entire )?(?:video|clip|film|movie|footage|recording)?(?: |$)|what|everything|all))",
     "list thing"),
    (r"(?:give|write|make|show)(?: me| us)? an? (?:\w+ )?(?:summary|description|overview)(?: of)?|^(?:summari[sz]e|describe|summary)$", "list thing"),
    # what is asked politely
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
    (r"(?:for )?how (?:long|(?:many|much) (?:seconds|minutes|time))|what (?:is|was) the (?:length|duration|running time) of", "howlong"),
    (r"how often|how many times|(?:what (?:is|was) )?the number of times", "howoften"),
    (r"(?:(?:what|which) (?:is|are|was|were)|name) the colou?rs? of|(?:what|which)(?: is the)? colou?rs?(?= (?:is|are|was|were|do|does|did|has|have)\b)", "whatcolour"),
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
