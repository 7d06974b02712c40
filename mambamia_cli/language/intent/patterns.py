"""Skeletons of the kinds of question: regular expressions over the words of `words.SAME`, with X for a thing."""

import re

SEEN = r"(?: seen| here| appear| be)+"
PATTERNS = {
    "exists": (rf"be there X(?:{SEEN})?", r"do X (?:appear|show)(?: here)*", r"(?:do|can|have) we (?:see|seen)(?: here)? X(?: here)*",
               rf"can X{SEEN}", rf"be X{SEEN}", rf"have X{SEEN}", r"be we seen X(?: here)*", r"do video (?:show|have) X(?: here)*", rf"whether (?:there be X|X(?: can)?{SEEN}|we (?:can )?see X)(?: here)*"),
    "exists, yes or no": (rf"X(?: can)?{SEEN}", r"there be X(?: here)*", r"we (?:can )?see X(?: here)*", r"video show X", r"X"),
    "coloured": (r"be X",),  # "is the car red"
    "order": (r"(?:do|be|can|have|whether)(?: there| we| video)*(?: see| show)* X(?: can)?(?: seen| here| appear| be| first| show)* (?:before|after) X(?: do| be| can| have| appear| seen| here)*",
              r"(?:do|be|can|have)(?: we)?(?: see)* X(?: seen| here| appear| be)* (?:first|last)(?: and)? (?:before|after) X(?: do| be| appear| seen| here)*"),
    "order, yes or no": (r"X(?: be| can| seen| here| appear| first)* (?:before|after) X(?: do| be| can| appear| seen| here)*",),
    "after": (r"which(?: X)?(?: be| can| do| we| it| thing| see| seen| appear| show| here| next| first)* (?:before|after) X(?: be| seen| appear| here| have)*",
              r"(?:before|after) X(?: be| seen| appear| here)* which(?: X)?(?: be| can| do| we| it| thing| see| seen| appear| show| here| next| first)+"),
    "absent": (r"which(?: X)?(?: be| do| can| we| it| thing)* not(?: be| seen| see| here| appear| show| video| with)*", r"which(?: X)?(?: do| can)*(?: (?:we|video) not| not (?:we|video)) (?:see|show)(?: here)*",
               r"(?:(?:it|thing) )*(?:can |do )?(?:appear|be seen|be here)(?: here)? not(?: with)? which"),
    "appear": (r"(?:which|list)(?: X)?(?: be| can| do| have| we| video| it| there| thing)*(?: see| seen| here| appear| show| be| it| there)+",
               r"thing(?: X)?(?: be| can| do)*(?: see| seen| here| appear)+ which(?: be)?(?: it)?", r"which(?: X)?(?: thing)? (?:do|can) we see(?: here)*"),
    "list": (r"(?:can we )?list(?=.* (?:thing|seen|see|appear))(?: it| thing| which| we| can| be| do| have| there| seen| see| here| appear| show| order| video)*",
             r"which(?: thing| be| can| do| have| we| video| it| there)*(?: see| seen| here| appear| show| order| there| it| and| with| be)+", r"which be(?: it)? video",
             r"(?:with )?(?:which )?order(?: do| be| can)*(?: thing)(?: appear| seen| be| here)+", r"which be order(?: thing| it| appear| seen| which| do| be| here)*"),
    "number": (r"(?:how|which) many X(?: be| do| can| have| we| video| there| see| seen| here| appear| show)*", r"count X(?: here| which| be| seen| appear)*"),
    "duration": (r"howlong(?: be| do| can| have| we)*(?: see X|(?: see)? X(?: be| can| seen| here| appear| stay| show)+)",),
    "times": (r"howoften(?: be| do| can| have| we)*(?: see)? X(?: be| can| seen| here| appear| show)*",),
    "length": (r"howlong(?: be)?(?: it)? video(?: be)?",),
    "colour": (r"whatcolour(?: be| do| have)* X(?: have| be| seen| here)*",),
    "count": (r"how many thing(?: be| can| do| have| we| there| it| video)*(?: see| seen| here| appear| show| there| be)+", r"which(?: be)? many thing(?: it| which| be| can| seen| here| appear)*",
              r"count thing(?: it| which| be| can| we| seen| see| here| appear)*"),
}  # fmt: skip


def fits(kind: str, bones: str) -> bool:
    return any(re.fullmatch(pattern, bones) for pattern in PATTERNS.get(kind, ()))
