"""ImageNet's classes folded into everyday words: what is told of a picture must be what anyone would call it.

A class that no family claims keeps its own name. UNTELLING classes are never told: a flat drawing, a blur or a patch of
texture is often taken for one of them, and a viewer is not helped by it. Probabilities of a family's classes add up, so that
a car which might be a minivan or a convertible is a car all the same.
"""

from functools import cache

import numpy as np

from mambamia_cli.vision.imagenet import labels

RANGES = {  # first and last class, in ImageNet's order, of families that stand together
    "shark": ("great white shark", "hammerhead"), "bird": ("brambling", "water ouzel"), "frog": ("bullfrog", "tailed frog"),
    "turtle": ("loggerhead", "box turtle"), "lizard": ("banded gecko", "Komodo dragon"), "crocodile": ("African crocodile", "American alligator"),
    "snake": ("thunder snake", "sidewinder"), "spider": ("black and gold garden spider", "wolf spider"), "parrot": ("African grey", "lorikeet"),
    "crab": ("Dungeness crab", "king crab"), "lobster": ("American lobster", "crayfish"), "dog": ("Chihuahua", "Mexican hairless"),
    "wolf": ("timber wolf", "African hunting dog"), "fox": ("red fox", "grey fox"), "cat": ("tabby", "Egyptian cat"), "bear": ("brown bear", "sloth bear"),
    "beetle": ("tiger beetle", "weevil"), "butterfly": ("admiral", "lycaenid"), "rabbit": ("wood rabbit", "Angora"), "deer": ("hartebeest", "gazelle"),
    "monkey": ("guenon", "squirrel monkey"), "mushroom": ("coral fungus", "bolete"),
}  # fmt: skip
FAMILIES = {
    "salamander": ("European fire salamander", "common newt", "spotted salamander", "axolotl"), "chicken": ("cock", "hen", "prairie chicken"),
    "eagle": ("kite", "bald eagle"), "owl": ("great grey owl",), "grouse": ("black grouse", "ptarmigan", "ruffed grouse", "partridge", "quail"),
    "duck": ("drake", "red-breasted merganser"), "swan": ("black swan",), "stork": ("white stork", "black stork"),
    "heron": ("little blue heron", "American egret", "bittern", "crane bird", "limpkin", "spoonbill"),
    "wader": ("ruddy turnstone", "red-backed sandpiper", "redshank", "dowitcher", "oystercatcher"), "penguin": ("king penguin",),
    "whale": ("grey whale", "killer whale"), "big cat": ("cougar", "lynx", "leopard", "snow leopard", "jaguar", "cheetah"), "squirrel": ("fox squirrel",),
    "pig": ("hog", "wild boar"), "cow": ("ox", "water buffalo", "bison"), "sheep": ("ram", "bighorn"), "goat": ("ibex",), "camel": ("Arabian camel",),
    "horse": ("sorrel", "horse cart"), "elephant": ("tusker", "Indian elephant", "African elephant"), "panda": ("giant panda",), "red panda": ("lesser panda",),
    "ape": ("orangutan", "gorilla", "chimpanzee", "gibbon", "siamang"), "ferret": ("weasel", "mink", "polecat", "black-footed ferret"),
    "fish": ("tench", "barracouta", "coho", "rock beauty", "anemone fish", "sturgeon", "gar", "lionfish", "puffer", "goldfish"),
    "dragonfly": ("dragonfly", "damselfly"), "insect": ("grasshopper", "cricket", "cicada", "leafhopper", "lacewing", "cockroach"),
    "bicycle": ("mountain bike", "bicycle-built-for-two", "unicycle", "tricycle"), "motorcycle": ("moped", "motor scooter"), "taxi": ("cab",),
    "car": ("beach wagon", "convertible", "jeep", "limousine", "minivan", "Model T", "racer", "sports car", "car mirror", "car wheel"),
    "truck": ("pickup", "moving van", "tow truck", "garbage truck", "trailer truck", "police van"), "fire truck": ("fire engine",),
    "bus": ("minibus", "school bus", "trolleybus", "recreational vehicle"), "tram": ("streetcar",), "rickshaw": ("jinrikisha",),
    "train": ("bullet train", "electric locomotive", "steam locomotive", "passenger car", "freight car"), "airplane": ("airliner", "warplane"),
    "boat": ("canoe", "catamaran", "fireboat", "gondola", "lifeboat", "schooner", "speedboat", "trimaran", "yawl"),
    "ship": ("aircraft carrier", "container ship", "liner", "pirate", "submarine", "wreck"), "rocket": ("space shuttle",),
    "guitar": ("acoustic guitar", "electric guitar", "banjo"), "piano": ("grand piano",), "violin": ("violin", "cello"),
    "telephone": ("cellular telephone", "dial telephone", "pay-phone"), "laptop": ("laptop", "notebook"), "television": ("television", "home theater"),
    "computer": ("desktop computer", "monitor", "computer keyboard", "space bar", "typewriter keyboard"), "camera": ("Polaroid camera", "reflex camera"),
    "chair": ("folding chair", "rocking chair", "barber chair", "throne"), "sofa": ("studio couch",), "bench": ("park bench",), "table": ("dining table", "desk"),
    "bed": ("four-poster", "crib", "bassinet", "cradle"), "bottle": ("beer bottle", "wine bottle", "pop bottle", "water bottle"),
    "cup": ("cup", "coffee mug", "espresso", "eggnog"), "glass": ("beer glass", "goblet", "red wine"), "pot": ("caldron", "Crock Pot", "Dutch oven", "hot pot"),
    "ball": ("rugby ball", "soccer ball", "tennis ball", "volleyball", "basketball", "baseball", "golf ball", "croquet ball"),
    "hat": ("cowboy hat", "sombrero", "bonnet", "bearskin"), "helmet": ("crash helmet", "football helmet", "pickelhaube"), "tie": ("Windsor tie", "bow tie", "bolo tie"),
    "shoe": ("running shoe", "Loafer", "clog", "sandal", "cowboy boot"), "dress": ("gown", "hoopskirt", "overskirt", "groom"), "sunglasses": ("sunglass", "sunglasses"),
    "bag": ("purse", "mailbag", "plastic bag"), "clock": ("analog clock", "wall clock"), "watch": ("stopwatch",),
    "lamp": ("table lamp", "lampshade"), "bridge": ("steel arch bridge", "suspension bridge", "viaduct"), "church": ("church", "bell cote", "monastery"),
    "tower": ("beacon", "water tower", "obelisk"), "fence": ("bannister", "chainlink fence", "picket fence", "worm fence", "turnstile"),
    "traffic sign": ("street sign",), "mountain": ("alp", "volcano"), "coast": ("seashore", "sandbar", "promontory", "cliff"), "lake": ("lakeside",),
    "flower": ("daisy", "yellow lady's slipper"), "apple": ("Granny Smith",), "squash": ("spaghetti squash", "acorn squash", "butternut squash"),
    "bread": ("French loaf", "bagel", "pretzel"), "hamburger": ("cheeseburger",), "cake": ("trifle", "chocolate sauce"), "house": ("mobile home", "boathouse", "yurt"),
    "skis": ("ski",), "bathing suit": ("bikini", "maillot", "tank suit", "swimming trunks"), "shop": ("bakery", "bookshop", "butcher shop",
    "confectionery", "grocery store", "shoe shop", "tobacco shop", "toyshop"), "baseball player": ("ballplayer",), "diver": ("scuba diver",),
}  # fmt: skip
UNTELLING = (
    "web site", "comic book", "book jacket", "menu", "crossword puzzle", "jigsaw puzzle", "envelope", "packet", "switch", "nematode", "flatworm", "isopod",
    "matchstick", "spotlight", "screen", "window screen", "window shade", "fire screen", "shower curtain", "theater curtain", "mosquito net", "scoreboard",
    "pole", "chain", "coil", "hook", "knot", "nail", "screw", "slot", "rule", "stole", "velvet", "wool", "doormat", "prayer rug", "quilt", "dishrag", "handkerchief",
    "paper towel", "bath towel", "Band Aid", "pick", "plane", "file", "binder", "modem", "safe", "iPod", "hard disc", "cassette", "tape player", "CD player", "radio",
    "oscilloscope", "digital clock", "digital watch", "loupe", "lens cap", "oil filter", "disk brake", "radiator", "reel", "stage", "maze", "bubble", "rapeseed",
    "hip", "buckeye", "eft", "tick", "pinwheel", "maypole", "flagpole", "pedestal", "guillotine", "half track", "thresher", "harvester", "punching bag", "parallel bars",
    "horizontal bar", "balance beam", "barbell", "dumbbell", "swing", "tray", "stretcher", "sundial", "prison", "patio", "abaya", "cloak", "mask", "neck brace",
    "knee pad", "bulletproof vest", "jean", "jersey", "sweatshirt", "parking meter", "gas pump", "cash machine", "vending machine", "photocopier", "printer",
    "safety pin", "hair slide", "thimble", "whistle", "nipple", "buckle", "muzzle", "holster", "scabbard", "breastplate", "cuirass", "chain mail", "shield",
    "sea anemone", "sea cucumber", "sea slug", "sea urchin", "brain coral", "coral reef", "jellyfish", "stingray", "electric ray", "trilobite", "triceratops",
    "conch", "chiton", "slug", "bobsled", "amphibian", "snowplow", "go-kart", "crane", "drilling platform", "upright", "tile roof", "thatch", "stone wall", "dam",
    "breakwater", "honeycomb", "spider web", "manhole cover", "dome", "planetarium", "vault", "altar", "grille", "wing", "paddle", "missile", "projectile",
)  # fmt: skip


@cache
def folding() -> tuple[tuple[str, ...], np.ndarray]:
    """-> everyday words (k,) and of each ImageNet class the index of its word, -1 for the untelling, (1000,)."""
    names = labels()
    of = {name: name for name in names}
    for word, (first, last) in RANGES.items():
        of.update(dict.fromkeys(names[names.index(first) : names.index(last) + 1], word))
    for word, members in FAMILIES.items():
        of.update(dict.fromkeys(members, word))
    for name in UNTELLING:
        of.pop(name, None)
    words = tuple(dict.fromkeys(of[name] for name in names if name in of))
    return words, np.array([words.index(of[name]) if name in of else -1 for name in names])


def folded(shares: np.ndarray) -> np.ndarray:
    """shares (..., 1000) of ImageNet's classes -> (..., k) of everyday words; those of untelling classes are left out."""
    return shares @ _sums().astype(shares.dtype, copy=False)


@cache
def _sums() -> np.ndarray:
    """(1000, k): 1 where a class is one of a word's."""
    words, index = folding()
    return (index[:, None] == np.arange(len(words))).astype(np.float64)
