"""The 1000 ImageNet class names, in the order of the embedded encoder's classifier.

The table beside this file holds one short English name a line: the first lemma of the class's WordNet synset, but for
"crane bird" and "tank suit", whose first lemma another class bears too.
"""

from functools import cache
from importlib.resources import files


@cache
def labels() -> tuple[str, ...]:
    """The names, by class index; all different."""
    return tuple(files(__package__).joinpath("imagenet_labels.txt").read_text(encoding="utf-8").splitlines())
